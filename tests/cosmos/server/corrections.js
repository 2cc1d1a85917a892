// Corrects what @vercel/cosmosdb-server 1.0.1 answers where Azure Cosmos DB is documented to answer otherwise.
//
// Each correction names the page of Microsoft's documentation that it follows. It is our reading of that page and no
// proof of what the service does. tests/cosmos/test_server.py shows each of them through the real client.
"use strict";

const { createRequire } = require("node:module");
const path = require("node:path");

const PARTITION_KEY = "x-ms-documentdb-partitionkey";
const CROSS_PARTITION = "x-ms-documentdb-query-enablecrosspartition";

// "Concepts: limits" (Azure Cosmos DB service quotas and default limits), per item and per request
const MAX_BYTES = 2 * 1024 * 1024;
const MAX_ID_BYTES = 1023;
const MAX_PARTITION_KEY_BYTES = 2048;
const MAX_BATCH_OPERATIONS = 100;

// Change the package's modules. Has to be called before its lib/index.js is loaded, which copies the handlers.
exports.correct = (directory, protocol) => {
  const inside = (name) => require(path.join(directory, "lib", name));
  const dependency = createRequire(path.join(directory, "lib", "index.js"));
  const package_ = {
    Items: inside("account/items").default,
    Documents: inside("account/documents").default,
    documentOperations: inside("handler/_document-operations"),
    patchOperation: inside("handler/_patch-operations").patchOperation,
    readItems: inside("handler/_read-items").default,
    getValue: inside("utils/get-value").default,
    parse: dependency("@zeit/cosmosdb-query").default,
    queryHelpers: dependency("@zeit/cosmosdb-query/lib/helpers"),
  };

  // The launcher has read the request's body already, to match faults with it.
  inside("json").default = async (request) => JSON.parse(request.text);

  correctDocuments(package_);
  correctAccount(inside, protocol);
  correctContainerReplacement(inside);
  correctItemOperations(inside, package_);
  correctQueries(inside, package_);
};

const refusal = (statusCode, code, message) => ({ statusCode, body: { code, message } });
const isRefused = (result) => result.statusCode >= 400;
const isTrue = (header) => String(header).toLowerCase() === "true";
const bytes = (text) => Buffer.byteLength(text);

// ------------------------------------------------------------------------------------------------------- the documents

function correctDocuments({ Items, Documents }) {
  // "Partitioning and horizontal scaling": "", 0 and false are partition keys, where the package takes them for none.
  Documents.prototype._getId = (keyPath, id, partition) =>
    JSON.stringify([keyPath, id, partition === undefined ? id : partition]);

  Documents.prototype._set = function set(document) {
    // "Optimistic concurrency": an _etag is a quoted string, as an HTTP ETag is
    const stored = Items.prototype._set.call(this, { ...document, _etag: `"${document._etag}"` });
    this.nextExpiry = Math.min(this.nextExpiry ?? Infinity, expiryOf(this, stored));
    this.undo?.push(() => Items.prototype.delete.call(this, stored.id, this._getPartition(stored)));
    return stored;
  };

  Documents.prototype.delete = function remove(id, partition) {
    const stored = this._item("/id", id, partition).read();
    Items.prototype.delete.call(this, id, partition);
    this.undo?.push(() => Items.prototype._set.call(this, stored));
  };
}

// Run the action, which writes synchronously; take back what it has written if its result is a refusal.
function atomically(documents, action) {
  const outer = documents.undo;
  const undo = [];
  documents.undo = undo;
  let kept = false;
  try {
    const result = action();
    kept = !isRefused(result);
    return result;
  } finally {
    documents.undo = outer;
    if (kept) outer?.push(...undo);
    else undo.reverse().forEach((revert) => revert());
  }
}

// "Time to live": an item expires its ttl, or else the container's, after its last write; -1 is never. Without a value
// on the container the items' values count for nothing.
function expiryOf(documents, document) {
  const containerTtl = documents._parent.read().defaultTtl;
  if (typeof containerTtl !== "number") return Infinity;
  const ttl = typeof document.ttl === "number" ? document.ttl : containerTtl;
  return ttl > 0 ? document._ts + ttl : Infinity;
}

// "Time to live": expired items are not visible any more. They are removed before anything looks.
function removeExpired(documents) {
  const now = Date.now() / 1000;
  if (now < (documents.nextExpiry ?? Infinity)) return;
  documents.nextExpiry = Infinity;
  for (const item of [...documents._data.values()]) {
    const document = item.read();
    const expiry = expiryOf(documents, document);
    if (expiry <= now) documents.delete(document.id, documents._getPartition(document));
    else documents.nextExpiry = Math.min(documents.nextExpiry, expiry);
  }
}

// --------------------------------------------------------------------------------------------- account and containers

// The account names its own address as https always, which sends the client elsewhere if the server speaks http.
function correctAccount(inside, protocol) {
  inside("handler/read-meta").default = (account) =>
    JSON.parse(JSON.stringify(account.read()).replaceAll("https://", `${protocol}://`));
}

// "Manage indexing policies", "Time to live": a container's settings can be replaced at any time. The package would
// lose the container's items.
function correctContainerReplacement(inside) {
  const module = inside("handler/replace-collection");
  const replace = module.default;
  module.default = async (account, request, response, parameters) => {
    const find = () => account.database(parameters.dbId).collection(parameters.collId);
    const before = find();
    const body = await replace(account, request, response, parameters);
    const after = find();
    if (after !== before && before.read()) {
      after.documents = before.documents;
      after.documents._parent = after;
      after.documents.nextExpiry = 0; // the time to live may be another one now
    }
    return body;
  };
}

// Answer requests to the container: those of the package's handler of this name.
function serve(inside, name, answer) {
  inside(`handler/${name}`).default = async (account, request, response, parameters) => {
    const container = account.database(parameters.dbId).collection(parameters.collId);
    if (!container.read()) {
      response.statusCode = 404;
      return { code: "NotFound", message: "Owner resource does not exist" };
    }
    removeExpired(container.documents);
    const { statusCode, body } = await answer(container, request, response, parameters);
    response.statusCode = statusCode;
    return body;
  };
}

// ------------------------------------------------------------------------------------------------ operations on items

function correctItemOperations(inside, package_) {
  const operate = itemOperations(package_);
  const operationTypes = {
    "create-document": "Create",
    "upsert-document": "Upsert",
    "replace-document": "Replace",
    "read-document": "Read",
    "delete-document": "Delete",
    "patch-document": "Patch",
  };
  for (const [name, operationType] of Object.entries(operationTypes)) {
    serve(inside, name, (container, request, response, { docId }) => {
      const result = operate(container, {
        operationType,
        id: docId,
        resourceBody: request.text ? JSON.parse(request.text) : undefined,
        partitionKey: request.headers[PARTITION_KEY],
        ifMatch: request.headers["if-match"],
        ifNoneMatch: request.headers["if-none-match"],
      });
      return operationType === "Read" || isRefused(result) ? result : brief(request, response, result);
    });
  }
  serve(inside, "batch-documents", (container, request) => batch(operate, container, request));
}

// "Common Azure Cosmos DB REST request headers": with "Prefer: return=minimal" a write's answer has no body.
function brief(request, response, result) {
  if (!wantsNoBody(request)) return result;
  if (result.body) response.setHeader("etag", result.body._etag);
  return { statusCode: result.statusCode, body: undefined };
}

const wantsNoBody = (request) => request.headers.prefer === "return=minimal";

// "Transactional batch operations": at most 100 operations and 2 MB on one logical partition; all of them happen, or
// none. The operation that failed keeps its status, the others have 424 (failed dependency).
function batch(operate, container, request) {
  const operations = JSON.parse(request.text);
  if (!Array.isArray(operations) || operations.length > MAX_BATCH_OPERATIONS) {
    return refusal(400, "BadRequest", "Batch request has more operations than what is supported.");
  }
  if (bytes(request.text) > MAX_BYTES) {
    return refusal(413, "RequestEntityTooLarge", "Request size is too large");
  }
  const results = [];
  // Nothing in here waits, so no other request sees a part of it.
  const outcome = atomically(container.documents, () => {
    for (const operation of operations) {
      const result = operate(container, { ...operation, partitionKey: request.headers[PARTITION_KEY] });
      if (isRefused(result)) return result;
      results.push(result);
    }
    return { statusCode: 200 };
  });
  if (isRefused(outcome)) return { statusCode: 207, body: failedBatch(operations.length, results.length, outcome) };
  return { statusCode: 200, body: results.map((result) => batchResult(result, wantsNoBody(request))) };
}

function failedBatch(length, failed, { statusCode }) {
  return Array.from({ length }, (_, index) => ({ statusCode: index === failed ? statusCode : 424, requestCharge: 0 }));
}

function batchResult({ statusCode, body }, withoutBody) {
  const shown = withoutBody ? undefined : body;
  return { statusCode, requestCharge: 1, eTag: body?._etag, resourceBody: shown };
}

// One operation on one item, alone or in a batch: a function from container and input to status code and body.
function itemOperations(package_) {
  const { createOperation, upsertOperation, replaceOperation, deleteOperation } = package_.documentOperations;
  const beyond = (container, input) => beyondLimits(package_, container, input);
  const operations = {
    Create: (container, input) => beyond(container, input) ?? createOperation(container, input),
    Upsert: (container, input) => beyond(container, input) ?? upsertOperation(container, input),
    Replace: (container, input) => otherId(input) ?? beyond(container, input) ?? replaceOperation(container, input),
    Read: (container, input) => read(package_, container, input),
    Delete: deleteOperation,
    Patch: (container, input) => patch(package_, container, input),
  };
  return (container, { ifMatch, ...input }) => {
    const operation = operations[input.operationType];
    if (!operation) return refusal(400, "BadRequest", `Operation type '${input.operationType}' is not supported.`);
    if (input.partitionKey === undefined) return refusal(400, "BadRequest", "A partition key is required.");
    try {
      return operation(container, { ...input, ifMatch: ifMatch === "*" ? undefined : ifMatch });
    } catch (error) {
      if (error.conflict) return refusal(409, "Conflict", error.message);
      if (error.badRequest) return refusal(400, "BadRequest", error.message);
      throw error;
    }
  };
}

// "Concepts: limits" for an item, and "Partitioning and horizontal scaling": the item's own partition key has to be the
// request's.
function beyondLimits({ getValue }, container, { resourceBody, partitionKey }) {
  if (bytes(JSON.stringify(resourceBody)) > MAX_BYTES) {
    return refusal(413, "RequestEntityTooLarge", "Request size is too large");
  }
  const { id } = resourceBody;
  if (typeof id !== "string" || id === "" || bytes(id) > MAX_ID_BYTES || /[/\\]/.test(id)) {
    return refusal(400, "BadRequest", "The input content is invalid: the id has to be a string of 1 to 1023 bytes.");
  }
  const own = getValue(container.documents._getPartitionKeyPath(), resourceBody);
  if (typeof own === "string" && bytes(own) > MAX_PARTITION_KEY_BYTES) {
    return refusal(400, "BadRequest", "Partition key value exceeds the limit of 2048 bytes.");
  }
  if (own !== partitionOf(partitionKey)) {
    const message = "PartitionKey extracted from document doesn't match the one specified in the header";
    return refusal(400, "BadRequest", message);
  }
  return undefined;
}

// The header is a JSON array of one value; an object in it says that the item has none.
function partitionOf(header) {
  const [value] = JSON.parse(header);
  return value !== null && typeof value === "object" ? undefined : value;
}

// "Replace a document" (REST): the id in the body has to be the one that is replaced.
function otherId({ id, resourceBody }) {
  return id === resourceBody.id ? undefined : refusal(400, "BadRequest", "The id of an item cannot be replaced.");
}

// "Get a document" (REST): 404 for a missing item, where the package fails, and 304 if the caller has this version.
function read({ documentOperations }, container, input) {
  const result = documentOperations.readOperation(container, input);
  const known = result.statusCode === 200 && input.ifNoneMatch === result.body._etag;
  return known ? { statusCode: 304, body: {} } : result;
}

// "Partial document update": the predicate is evaluated as it is written, where the package changes it to lower case.
function patch({ parse, patchOperation }, container, input) {
  const { operations, condition } = input.resourceBody;
  if (!Array.isArray(operations)) return refusal(400, "BadRequest", "Invalid patch request.");
  const stored = container.document(input.id, partitionOf(input.partitionKey) ?? input.id).read();
  if (condition && stored) {
    try {
      if (parse(`SELECT * ${condition}`).exec([stored]).result.length === 0) {
        return refusal(412, "PreconditionFailed", "Condition specified in the patch request is not satisfied.");
      }
    } catch (error) {
      return refusal(400, "BadRequest", `Invalid condition in patch request: ${error.message}`);
    }
  }
  return atomically(container.documents, () => {
    const result = patchOperation(container, { ...input, operations, condition: undefined });
    const tooLarge = !isRefused(result) && bytes(JSON.stringify(result.body)) > MAX_BYTES;
    return tooLarge ? refusal(413, "RequestEntityTooLarge", "Request size is too large") : result;
  });
}

// ------------------------------------------------------------------------------------------------------------ queries

function correctQueries(inside, package_) {
  // The package's version takes quadratic time.
  package_.queryHelpers.stripUndefined = withoutUndefined;

  serve(inside, "query-documents", async (container, request, response) => {
    const { query, parameters } = JSON.parse(request.text);
    if (request.headers[PARTITION_KEY] === undefined && !isTrue(request.headers[CROSS_PARTITION])) {
      return refusal(400, "BadRequest", "Cross partition query is required but disabled.");
    }
    return page(package_, container, request, response, { query, parameters });
  });

  serve(inside, "read-documents", async (container, request, response) =>
    page(package_, container, request, response, { query: "SELECT * FROM c" }),
  );
}

function withoutUndefined(value) {
  if (Array.isArray(value)) return value.filter((each) => each !== undefined).map(withoutUndefined);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  return Object.fromEntries(entries.map(([key, each]) => [key, withoutUndefined(each)]));
}

async function page({ readItems }, container, request, response, { query, parameters }) {
  const documents = documentsOf(container, request.headers[PARTITION_KEY]);
  response.statusCode = 200;
  const body = await readItems(request, response, "Documents", async (paging) => {
    const { indexingPolicy = {} } = container.read();
    const parsed = container.documents._getQuery(query);
    try {
      requireIndex(parsed, indexingPolicy);
      return parsed.exec(appendable(documents), {
        parameters,
        udf: container.userDefinedFunctions.functions,
        compositeIndexes: withOpposites(indexingPolicy.compositeIndexes ?? []),
        ...paging,
      });
    } catch (error) {
      response.statusCode = 400;
      return { code: "BadRequest", message: error.message };
    }
  });
  return { statusCode: response.statusCode, body };
}

// "Query an Azure Cosmos DB container": a query with a partition key sees this partition only.
function documentsOf(container, header) {
  const documents = Array.from(container.documents._data.values(), (item) => item.read());
  if (header === undefined) return documents;
  const partition = partitionOf(header);
  return documents.filter((document) => container.documents._getPartition(document) === partition);
}

// A compiled query only ever reduces the collection by a function that copies its rows and appends; done for each item
// alone the copies cost nothing.
function appendable(documents) {
  return { reduce: (append) => documents.flatMap((document) => append([], document)) };
}

// "Indexing policies": a composite index serves its order, and the opposite of all of it.
function withOpposites(compositeIndexes) {
  const opposite = { ascending: "descending", descending: "ascending" };
  const turned = compositeIndexes.map((paths) => paths.map(({ path, order }) => ({ path, order: opposite[order] })));
  return [...compositeIndexes, ...turned];
}

// "ORDER BY clause": the indexing policy has to include an index for the property that is sorted by. (The package sees
// to two and more properties itself.)
function requireIndex(parsed, indexingPolicy) {
  const expressions = parsed.ast.body.orderBy?.expressions ?? [];
  if (expressions.length !== 1) return;
  const property = propertyPath(expressions[0].expression);
  if (!isIndexed(property, indexingPolicy)) {
    throw new Error(`The index path corresponding to the specified order-by item is excluded: ${property}`);
  }
}

function propertyPath(expression) {
  if (expression.type !== "scalar_member_expression") return "";
  return `${propertyPath(expression.object)}/${expression.property.name ?? expression.property.value}`;
}

// "Indexing policies": the more precise of an included and an excluded path counts; id and _ts are indexed always.
function isIndexed(property, { includedPaths = [{ path: "/*" }], excludedPaths = [] }) {
  if (property === "/id" || property === "/_ts") return true;
  const precision = (paths) => Math.max(-1, ...paths.map(({ path: pattern }) => precisionOf(pattern, property)));
  return precision(includedPaths) > precision(excludedPaths);
}

function precisionOf(pattern, property) {
  const plain = pattern.replaceAll('"', "");
  const matches = plain.endsWith("/*") ? `${property}/`.startsWith(plain.slice(0, -1)) : plain === `${property}/?`;
  return matches ? 2 * plain.split("/").length + (plain.endsWith("?") ? 1 : 0) : -1;
}
