// Why it exists: frames give a stream of bytes messages; one connection to the broker asks, is answered, and hears.
// The page for it is docs/reference/protocol.md.

import net from "node:net";

export const PROTOCOL_VERSION = 1;
export const FRAME_BYTES_MAX = 8 * 1024 * 1024;
const KIND_JSON = 1;
const KIND_BLOB = 2;
const HEADER_BYTES = 5;
const HELLO_TIMEOUT_MS = 10_000;

/** The connection is gone, or nobody answered in time; the question may be asked again. */
export class UnavailableError extends Error {}

/** The broker has refused; `code` is one of the protocol's. */
export class RefusedError extends Error {
  /** @param {string} code @param {string} detail */
  constructor(code, detail) {
    super(detail);
    this.code = code;
  }
}

/**
 * Write one message as a frame, and raw bytes that belong to it as another.
 * @param {object} message
 * @param {Buffer | null} raw
 * @returns {Buffer}
 */
export function encode(message, raw = null) {
  const text = frame(KIND_JSON, Buffer.from(JSON.stringify(raw ? { ...message, blobs: 1 } : message)));
  return Buffer.concat(raw ? [...text, ...frame(KIND_BLOB, raw)] : text);
}

function frame(kind, payload) {
  if (payload.length > FRAME_BYTES_MAX) throw new RangeError(`a frame of ${payload.length} bytes`);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(payload.length, 0);
  header.writeUInt8(kind, 4);
  return [header, payload];
}

/** Cuts a stream into messages, whatever the pieces it comes in. Raw bytes stand in a message's `parts`. */
export class Decoder {
  #buffer = Buffer.alloc(0);
  #message = null;
  #blobs = [];
  #missing = 0;

  /** @param {Buffer} data @returns {object[]} the messages that are complete now */
  feed(data) {
    this.#buffer = this.#buffer.length ? Buffer.concat([this.#buffer, data]) : data;
    const found = [];
    while (this.#buffer.length >= HEADER_BYTES) {
      const length = this.#buffer.readUInt32BE(0);
      const kind = this.#buffer.readUInt8(4);
      if (kind !== KIND_JSON && kind !== KIND_BLOB) throw new SyntaxError(`a frame of the unknown kind ${kind}`);
      if (length > FRAME_BYTES_MAX) throw new SyntaxError(`a frame of ${length} bytes`);
      if (this.#buffer.length < HEADER_BYTES + length) break;
      const payload = this.#buffer.subarray(HEADER_BYTES, HEADER_BYTES + length);
      this.#buffer = this.#buffer.subarray(HEADER_BYTES + length);
      if ((kind === KIND_BLOB) !== this.#missing > 0) throw new SyntaxError("raw bytes that nobody has announced");
      if (kind === KIND_BLOB) {
        this.#blobs.push(payload);
        this.#missing -= 1;
      } else {
        this.#message = JSON.parse(payload.toString());
        if (typeof this.#message?.t !== "string") throw new SyntaxError("a message has its type in 't'");
        this.#missing = this.#message.blobs ?? 0;
        this.#blobs = [];
      }
      if (this.#missing === 0) found.push(this.#blobs.length ? { ...this.#message, parts: this.#blobs } : this.#message);
    }
    return found;
  }
}

/** One connection to the broker. */
export class Connection {
  #socket;
  #decoder = new Decoder();
  #next = 1;
  #asked = new Map();
  closed = false;

  /**
   * @param {net.Socket} socket
   * @param {(message: object) => void} onMessage what is no answer
   * @param {() => void} onClose
   */
  constructor(socket, onMessage, onClose) {
    this.#socket = socket;
    socket.on("data", (data) => {
      try {
        for (const message of this.#decoder.feed(data)) this.#hear(message, onMessage);
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        this.close();
      }
    });
    socket.on("error", () => this.close());
    socket.on("close", () => {
      this.close();
      onClose();
    });
  }

  /**
   * Connect and say hello as an instance.
   * @param {string} path of broker.sock
   * @param {{agent: string, ticket: string, token: string}} identity
   * @param {{task: string, fence: number} | null} held the turn that still runs
   * @returns {Promise<{connection: Connection, welcome: object}>}
   */
  static async open(path, identity, held, onMessage, onClose) {
    const socket = await new Promise((resolve, reject) => {
      const made = net.connect(path);
      made.once("connect", () => resolve(made));
      made.once("error", (error) => reject(new UnavailableError(`the broker is away: ${error.message}`)));
    });
    const connection = new Connection(socket, onMessage, onClose);
    try {
      const hello = { t: "hello", v: PROTOCOL_VERSION, role: "instance", pid: process.pid, held, files: true, ...identity };
      return { connection, welcome: await connection.request(hello, HELLO_TIMEOUT_MS) };
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  #hear(message, onMessage) {
    const waiting = message.re == null ? undefined : this.#asked.get(message.re);
    if (waiting) {
      this.#asked.delete(message.re);
      if (message.t === "error") waiting.reject(new RefusedError(message.code, message.detail));
      else waiting.resolve(message);
    } else if (message.t === "error") {
      this.close(); // of the connection as a whole: what was said makes no sense to the broker
    } else {
      onMessage(message);
    }
  }

  /** Send a message that nobody answers. @param {object} message @param {Buffer | null} raw */
  send(message, raw = null) {
    if (this.closed) throw new UnavailableError("the broker is away");
    this.#socket.write(encode(message, raw));
  }

  /**
   * Ask and wait for the answer.
   * @param {object} message @param {number} timeoutMs @param {Buffer | null} raw bytes that belong to it
   * @returns {Promise<any>}
   * @throws {RefusedError} as the broker says
   * @throws {UnavailableError} the connection broke, or there was no answer in time (then it is closed)
   */
  request(message, timeoutMs, raw = null) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      const timer = setTimeout(() => this.close(), timeoutMs);
      const settle = (act) => (value) => {
        clearTimeout(timer);
        act(value);
      };
      this.#asked.set(id, { resolve: settle(resolve), reject: settle(reject) });
      try {
        this.send({ ...message, id }, raw);
      } catch (error) {
        this.#asked.delete(id);
        settle(reject)(error);
      }
    });
  }

  /** Hang up; whoever waits for an answer hears that it will not come. */
  close() {
    if (this.closed) return;
    this.closed = true;
    this.#socket.destroy();
    for (const { reject } of this.#asked.values()) reject(new UnavailableError("the connection is gone"));
    this.#asked.clear();
  }
}
