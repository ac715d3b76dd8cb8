// Why it exists: the code of an agent is found, imported and looked over in one way by those who run and describe it.

import { statSync } from "node:fs";
import module from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { mistakesOf, NonRetryableError } from "./sutazai.mjs";

let hooked = false;

/** Let agents anywhere import "sutazai", and the packages that are installed beside this runtime. */
function hook() {
  if (hooked) return;
  hooked = true;
  module.register("./resolve.mjs", import.meta.url);
}

/**
 * Import an agent's code.
 * @param {string} file with its code, or the folder with agent.mjs
 * @returns {Promise<object>} what it exports
 */
export async function load(file) {
  hook();
  const code = statSync(file).isDirectory() ? path.join(file, "agent.mjs") : file;
  const { default: definition } = await import(pathToFileURL(code).href);
  const mistakes = mistakesOf(definition);
  if (mistakes.length) throw new NonRetryableError(mistakes.join("; "));
  return definition;
}
