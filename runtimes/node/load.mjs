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
  const { default: definition } = await import(pathToFileURL(code).href).catch((error) => {
    const missing = /^Cannot find package '([^']+)'/.exec(error?.message ?? "")?.[1];
    if (!missing) throw error;
    throw new NonRetryableError(`the package ${missing} is not installed; run: scripts/bootstrap base node, or npm install ${missing} beside the agent`);
  });
  const mistakes = mistakesOf(definition);
  if (mistakes.length) throw new NonRetryableError(mistakes.join("; "));
  return definition;
}
