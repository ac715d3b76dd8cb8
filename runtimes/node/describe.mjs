// Why it exists: the plan holds each skill's schemas, and only the agent's own code knows them.
// usage: node describe.mjs MODULE…   prints a JSON array, one object for each module, as its last line.

import { writeSync } from "node:fs";
import { load } from "./load.mjs";

const ANY = {};
console.log = console.info = console.error; // the last line of standard output is the answer
const found = [];
for (const file of process.argv.slice(2)) {
  try {
    const { name, skills } = await load(file);
    found.push({
      name,
      skills: Object.entries(skills).map(([skill, { description = "", input = { type: "object" }, output = ANY }]) => ({
        name: skill, description, input, output,
      })),
    });
  } catch (error) {
    found.push({ error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
  }
}
const text = `${JSON.stringify(found)}\n`;
for (let at = 0, data = Buffer.from(text); at < data.length; ) at += writeSync(1, data, at);
process.exit(0);
