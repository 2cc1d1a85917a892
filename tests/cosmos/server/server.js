// An in-memory server that speaks the protocol of Azure Cosmos DB (NoSQL), for tests.
//
//   node server.js --modules NODE_MODULES [--port PORT] [--protocol http|https] [--key BASE64] [--raw]
//
// It is @vercel/cosmosdb-server with the corrections of corrections.js, the faults of faults.js, and a check of the
// account's key. It is neither Azure Cosmos DB nor Microsoft's emulator. With --raw it is the package alone.
//
// It prints "control http://..." (commands for the tests, see "commands") and then "ready http://...". It ends when its
// standard input is closed, so that it never outlives the process that started it.
"use strict";

const crypto = require("node:crypto");
const http = require("node:http");
const path = require("node:path");
const { parseArgs } = require("node:util");

const { correct } = require("./corrections.js");
const { Faults } = require("./faults.js");

const HOST = "127.0.0.1";
const VERSION = "1.0.1"; // the corrections reach into private modules: another version needs another look

function main() {
  endWithParent();
  const { values: options } = parseArgs({
    options: {
      modules: { type: "string" },
      port: { type: "string", default: "0" },
      protocol: { type: "string", default: "http" },
      key: { type: "string", default: "" },
      raw: { type: "boolean", default: false },
    },
  });
  const directory = path.resolve(options.modules, "@vercel", "cosmosdb-server");
  requireVersions(directory);
  if (options.raw) startRaw(directory, options);
  else start(directory, options);
}

function endWithParent() {
  process.stdin.resume();
  for (const event of ["end", "close", "error"]) process.stdin.on(event, () => process.exit(0));
}

function requireVersions(directory) {
  if (Number(process.versions.node.split(".")[0]) < 20) fail(`Node.js ${process.versions.node}: 20 or newer is needed`);
  const { name, version } = require(path.join(directory, "package.json"));
  if (version !== VERSION) fail(`${name} ${version}: the corrections are for ${VERSION}`);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

// Loads the package's main module, and with it all handlers as they are at this time.
function createServer(directory, protocol, options) {
  const { createHttpServer, createHttpsServer } = require(path.join(directory, "lib", "index.js"));
  return protocol === "https" ? createHttpsServer(options) : createHttpServer(options);
}

function listen(server, port) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, HOST, () => resolve(server.address().port));
  });
}

async function startRaw(directory, { port, protocol }) {
  const server = createServer(directory, protocol, {});
  console.log(`ready ${protocol}://${HOST}:${await listen(server, Number(port))}`);
}

async function start(directory, { port, protocol, key }) {
  correct(directory, protocol);
  const server = createServer(directory, protocol, { keepAlive: true });
  // No time limits: a connection that the server closes while a client begins to write is a fault nobody asked for.
  Object.assign(server, { keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 });
  const faults = new Faults();
  putInFront(server, key, faults);
  const address = await listen(server, Number(port));
  server.removeAllListeners("listening"); // the package begins a new, empty account each time that it listens
  const control = createControl(commands(server, address, faults));
  console.log(`control http://${HOST}:${await listen(control, 0)}`);
  console.log(`ready ${protocol}://${HOST}:${address}`);
}

// --------------------------------------------------------------------------------------------- in front of the package

function putInFront(server, key, faults) {
  const [serve] = server.listeners("request");
  let writes = 0;
  server.removeAllListeners("request");
  server.on("request", async (request, response) => {
    try {
      request.text = await textOf(request);
    } catch {
      return; // the client has gone
    }
    const entry = faults.record(request, response);
    if (key && !isSigned(request, key)) {
      response.writeHead(401, { "content-type": "application/json" });
      response.end(JSON.stringify({ code: "Unauthorized", message: "The signature does not fit the account's key." }));
      return;
    }
    const handle = () => {
      if (request.method !== "GET") writes += 1;
      response.setHeader("x-ms-session-token", `0:-1#${writes}`);
      serve(request, response);
    };
    const fault = faults.next(request);
    if (fault) faults.suffer(fault, entry, request, response, handle);
    else handle();
  });
}

async function textOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

// "Access control on Azure Cosmos DB resources" (REST): the signature of a request by the account's key. A token of
// Microsoft Entra ID is taken as it is.
function isSigned(request, key) {
  const authorization = decodeURIComponent(request.headers.authorization ?? "");
  const [, type, signature] = /^type=(\w+)&ver=1.0&sig=(.+)$/.exec(authorization) ?? [];
  if (type !== "master") return type === "aad";
  const segments = decodeURIComponent(request.url.split("?")[0]).split("/").filter(Boolean);
  const isFeed = segments.length % 2 === 1; // the path ends with a type of resources, not with the name of one
  const resourceType = segments.at(isFeed ? -1 : -2) ?? "";
  const link = (isFeed ? segments.slice(0, -1) : segments).join("/");
  const date = request.headers["x-ms-date"] ?? "";
  const text = `${request.method}\n${resourceType}\n`.toLowerCase() + `${link}\n${date.toLowerCase()}\n\n`;
  const expected = crypto.createHmac("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
  return signature === expected;
}

// ----------------------------------------------------------------------------------------------- commands of the tests

// Each has a path of its own on the control port, which stays open when the server's is closed.
function commands(server, port, faults) {
  const systemTime = Date.now;
  let aheadMs = 0;
  Date.now = () => systemTime() + aheadMs;
  return {
    fail: (added) => faults.add(added),
    clear: () => faults.clear(),
    "clear-log": () => faults.clearLog(),
    log: () => faults.log,
    held: () => faults.held.length,
    release: () => faults.release(),
    // Sets the server's clock so far ahead of the system's, so that nothing has to wait for a time to live.
    clock: (seconds) => {
      aheadMs = seconds * 1000;
    },
    refuse: () =>
      new Promise((resolve) => {
        if (!server.listening) return resolve();
        server.close(() => resolve());
        return server.closeAllConnections();
      }),
    accept: async () => {
      if (!server.listening) await listen(server, port);
    },
  };
}

function createControl(table) {
  return http.createServer(async (request, response) => {
    try {
      const text = await textOf(request);
      const result = await table[request.url.slice(1)](text ? JSON.parse(text) : undefined);
      response.end(JSON.stringify(result ?? null));
    } catch (error) {
      response.statusCode = 400;
      response.end(JSON.stringify(error.message));
    }
  });
}

main();
