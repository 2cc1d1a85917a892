// Faults that a test has asked for, and the log of the requests.
"use strict";

const CONDITIONS = {
  method: (value, request) => request.method === value,
  match: (value, request) => urlOf(request).includes(value),
  body: (value, request) => request.text.includes(value),
  pattern: (value, request) => new RegExp(value, "u").test(request.text),
  headers: (value, request) =>
    Object.entries(value).every(([name, part]) => String(request.headers[name.toLowerCase()] ?? "").includes(part)),
  query: (value, request) => describe(request).query === value,
  batch: (value, request) => describe(request).batch === value,
  crossPartition: (value, request) => describe(request).crossPartition === value,
};
const KINDS = ["status", "drop-before", "drop-after", "delay", "delay-after", "hold-before", "hold-after"];
const OPTIONS = ["kind", "status", "substatus", "retryAfterMs", "ms", "times", "after", ...Object.keys(CONDITIONS)];
const MAX_LOGGED = 20000;

const PARTITION_KEY = "x-ms-documentdb-partitionkey";

// The client ends most URLs with "/".
const urlOf = (request) => decodeURIComponent(request.url).replace(/(?<=.)\/$/, "");

// What the log and the conditions tell about a request.
function describe(request) {
  const isTrue = (name) => String(request.headers[name]).toLowerCase() === "true";
  const query = isTrue("x-ms-documentdb-isquery") || request.headers["content-type"] === "application/query+json";
  const readsItems = urlOf(request).endsWith("/docs") && (query || request.method === "GET");
  return {
    query,
    batch: isTrue("x-ms-cosmos-is-batch-request"),
    crossPartition: readsItems && request.headers[PARTITION_KEY] === undefined,
  };
}

class Faults {
  constructor() {
    this.clear();
  }

  clear() {
    this.faults = [];
    this.log = [];
    this.held?.forEach((release) => release());
    this.held = [];
  }

  clearLog() {
    this.log = [];
  }

  // A misspelt option would let a test pass for nothing, so it is refused.
  add(faults) {
    for (const fault of faults) {
      const kind = fault.kind ?? "status";
      const unknown = Object.keys(fault).filter((name) => !OPTIONS.includes(name));
      if (unknown.length > 0) throw new Error(`unknown options of a fault: ${unknown}`);
      if (!KINDS.includes(kind)) throw new Error(`unknown kind of a fault: ${kind}`);
      if ((kind === "status") !== (fault.status !== undefined)) throw new Error("a status without kind, or a kind");
      if (fault.pattern !== undefined) new RegExp(fault.pattern, "u"); // throws if it is none
      if (kind.startsWith("delay") !== (fault.ms !== undefined)) throw new Error("ms belongs to a delay");
    }
    this.faults.push(...faults.map((fault) => ({ kind: "status", times: 1, after: 0, ...fault })));
  }

  release() {
    const held = this.held;
    this.held = [];
    held.forEach((release) => release());
    return held.length;
  }

  // Log the request; its status is filled in when it is answered.
  record(request, response) {
    const entry = {
      method: request.method,
      url: urlOf(request),
      ...describe(request),
      partitionKey: request.headers[PARTITION_KEY] ?? null,
      body: request.text,
      status: null,
      fault: null,
    };
    this.log.push(entry);
    if (this.log.length > MAX_LOGGED) this.log.shift();
    const end = response.end;
    response.end = function ended(...values) {
      entry.status = response.statusCode;
      return end.apply(response, values);
    };
    return entry;
  }

  // The fault that this request is to suffer, if any.
  next(request) {
    return this.faults.find((fault) => {
      const applies = Object.entries(CONDITIONS).every(
        ([name, holds]) => fault[name] === undefined || holds(fault[name], request),
      );
      if (!applies || fault.times === 0) return false;
      if (fault.after > 0) {
        fault.after -= 1;
        return false;
      }
      fault.times -= 1;
      return true;
    });
  }

  // Let the request, which has this entry in the log, suffer the fault; "handle" serves it.
  suffer(fault, entry, request, response, handle) {
    entry.fault = fault.kind;
    switch (fault.kind) {
      case "drop-before":
        request.socket.destroy();
        break;
      case "drop-after": // the write happens, and the client is not told
        onAnswer(entry, response, () => request.socket.destroy());
        handle();
        break;
      case "delay":
        setTimeout(handle, fault.ms);
        break;
      case "delay-after":
        onAnswer(entry, response, (answer) => setTimeout(answer, fault.ms));
        handle();
        break;
      case "hold-before":
        this.held.push(handle);
        break;
      case "hold-after":
        onAnswer(entry, response, (answer) => this.held.push(answer));
        handle();
        break;
      default:
        refuse(fault, response);
    }
  }
}

// Do this instead of sending the answer; what it is given sends it.
function onAnswer(entry, response, action) {
  const end = response.end;
  response.end = (...values) => {
    entry.status = response.statusCode;
    action(() => end.apply(response, values));
    return response;
  };
}

function refuse({ status, substatus, retryAfterMs }, response) {
  const headers = { "content-type": "application/json" };
  if (retryAfterMs !== undefined) headers["x-ms-retry-after-ms"] = String(retryAfterMs);
  if (substatus !== undefined) headers["x-ms-substatus"] = String(substatus);
  response.writeHead(status, headers);
  response.end(JSON.stringify({ code: String(status), message: "injected by a test" }));
}

exports.Faults = Faults;
