// Why it exists: a result that is too large for a message goes to the broker, and comes from it, in parts of 1 MB.

import { createHash } from "node:crypto";
import { RefusedError, UnavailableError } from "./wire.mjs";

export const RESULT_IN_MESSAGE_BYTES_MAX = 4 * 1024 * 1024;
const PART_BYTES_MAX = 1024 * 1024;
const PART_TIMEOUT_MS = 60_000; // the last part is answered when all of the file is on disk

/** Name a result by size and digest. @param {Buffer} data @returns {{bytes: number, digest: string}} */
export function reference(data) {
  return { bytes: data.length, digest: `sha256:${createHash("sha256").update(data).digest("hex")}` };
}

/**
 * Send a result; each part is answered before the next one leaves.
 * @param {import("./wire.mjs").Connection} connection
 * @param {{task: string, fence: number}} held @param {Buffer} data @param {{bytes: number, digest: string}} named
 */
export async function upload(connection, held, data, named) {
  for (let offset = 0; offset < data.length; offset += PART_BYTES_MAX) {
    const part = data.subarray(offset, offset + PART_BYTES_MAX);
    await connection.request({ t: "upload", ...held, ...named, offset }, PART_TIMEOUT_MS, part);
  }
}

/**
 * Read the result of a task.
 * @param {(message: object) => Promise<any>} ask asks the broker until it answers
 * @param {string} of the task @param {{bytes: number, digest: string}} named
 * @returns {Promise<any>}
 * @throws {RefusedError} it is gone, or what arrived is not what was stored
 */
export async function download(ask, of, named) {
  const parts = [];
  let size = 0;
  while (size < named.bytes) {
    const answer = await ask({ t: "download", of, offset: size });
    const part = answer.parts?.[0];
    if (!part?.length) throw new RefusedError("unavailable", `the result of ${of} ended after ${size} of ${named.bytes} bytes`);
    parts.push(part);
    size += part.length;
  }
  const data = Buffer.concat(parts);
  if (reference(data).digest !== named.digest) throw new RefusedError("unavailable", `the result of ${of} is damaged`);
  return JSON.parse(data.toString());
}
