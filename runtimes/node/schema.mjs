// Why it exists: inputs are checked where the code runs, and a package for that would be the runtime's only dependency.
// This is a part of JSON Schema 2020-12; a keyword outside of it is refused when the agent is described, never ignored.

const KEYWORDS = new Set([
  "$defs", "$ref", "additionalProperties", "allOf", "anyOf", "const", "default", "description", "enum", "examples",
  "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maxLength", "maximum", "minItems",
  "minLength", "minimum", "multipleOf", "oneOf", "pattern", "properties", "required", "title", "type", "uniqueItems",
]);
const TYPES = new Set(["array", "boolean", "integer", "null", "number", "object", "string"]);
const DEPTH_MAX = 64;
const MISTAKES_MAX = 20;
const PROTECTED = new Set(["__proto__", "constructor", "prototype"]);

/** Name what in a schema is outside of the supported part. @returns {string[]} */
export function unsupported(schema, at = "#", root = schema) {
  if (typeof schema === "boolean") return [];
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return [`${at} is no schema`];
  const found = [];
  for (const key of Object.keys(schema)) if (!KEYWORDS.has(key)) found.push(`${at}/${key} is a keyword that is not supported`);
  for (const type of [schema.type ?? []].flat()) if (!TYPES.has(type)) found.push(`${at}/type: there is no type ${type}`);
  if (schema.$ref !== undefined && !resolve(schema.$ref, root)) found.push(`${at}/$ref ${schema.$ref} points to nothing in #/$defs`);
  if (schema.pattern !== undefined) {
    try {
      new RegExp(schema.pattern, "u");
    } catch (error) {
      found.push(`${at}/pattern: ${error.message}`);
    }
  }
  const inner = [
    ...Object.entries(schema.properties ?? {}).map(([name, each]) => [`properties/${name}`, each]),
    ...Object.entries(schema.$defs ?? {}).map(([name, each]) => [`$defs/${name}`, each]),
    ...["items", "additionalProperties"].filter((key) => schema[key] !== undefined).map((key) => [key, schema[key]]),
    ...["allOf", "anyOf", "oneOf"].flatMap((key) => (schema[key] ?? []).map((each, n) => [`${key}/${n}`, each])),
  ];
  return [...found, ...inner.flatMap(([name, each]) => unsupported(each, `${at}/${name}`, root))];
}

function resolve(ref, root) {
  const name = /^#\/\$defs\/([^/]+)$/.exec(ref)?.[1];
  return name && Object.hasOwn(root.$defs ?? {}, name) ? root.$defs[name] : undefined;
}

/**
 * Check a value, and fill defaults in.
 * @returns {{value: any, mistakes: string[]}} a copy with defaults; mistakes as "where: what"
 */
export function validate(schema, value) {
  const mistakes = [];
  const copy = structuredClone(value);
  check(schema, copy, "", schema, mistakes, 0);
  return { value: copy, mistakes: mistakes.slice(0, MISTAKES_MAX) };
}

function check(schema, value, at, root, mistakes, depth) {
  const wrong = (text) => mistakes.push(`${at || "it"}: ${text}`);
  if (schema === true) return;
  if (schema === false) return wrong("nothing is allowed here");
  if (depth > DEPTH_MAX) return wrong("it is nested too deep");
  if (schema.$ref) check(resolve(schema.$ref, root), value, at, root, mistakes, depth + 1);
  const types = [schema.type ?? []].flat();
  if (types.length && !types.some((type) => isOf(type, value))) return wrong(`is no ${types.join(" or ")}`);
  if (schema.enum && !schema.enum.some((each) => same(each, value))) wrong(`is none of ${JSON.stringify(schema.enum)}`);
  if (Object.hasOwn(schema, "const") && !same(schema.const, value)) wrong(`is not ${JSON.stringify(schema.const)}`);
  if (typeof value === "number") numbers(schema, value, wrong);
  if (typeof value === "string") strings(schema, value, wrong);
  if (Array.isArray(value)) arrays(schema, value, at, root, mistakes, depth, wrong);
  else if (value !== null && typeof value === "object") objects(schema, value, at, root, mistakes, depth, wrong);
  const passing = (list) => list.filter((each) => fits(each, value, root, depth));
  for (const each of schema.allOf ?? []) check(each, value, at, root, mistakes, depth + 1);
  if (schema.anyOf && !passing(schema.anyOf).length) wrong("fits none of the allowed forms");
  if (schema.oneOf && passing(schema.oneOf).length !== 1) wrong("does not fit exactly one of the allowed forms");
  for (const each of [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]) {
    if (fits(each, value, root, depth)) {
      check(each, value, at, root, [], depth + 1); // for its defaults
      break;
    }
  }
}

function fits(schema, value, root, depth) {
  const mistakes = [];
  check(schema, structuredClone(value), "", root, mistakes, depth + 1);
  return mistakes.length === 0;
}

function isOf(type, value) {
  if (type === "integer") return Number.isInteger(value);
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return typeof value === "object" && value !== null && !Array.isArray(value);
  return typeof value === type;
}

function numbers(schema, value, wrong) {
  if (value < schema.minimum) wrong(`is below ${schema.minimum}`);
  if (value > schema.maximum) wrong(`is above ${schema.maximum}`);
  if (value <= schema.exclusiveMinimum) wrong(`is not above ${schema.exclusiveMinimum}`);
  if (value >= schema.exclusiveMaximum) wrong(`is not below ${schema.exclusiveMaximum}`);
  if (schema.multipleOf && !Number.isInteger(value / schema.multipleOf)) wrong(`is no multiple of ${schema.multipleOf}`);
}

function strings(schema, value, wrong) {
  const length = [...value].length;
  if (length < schema.minLength) wrong(`is shorter than ${schema.minLength}`);
  if (length > schema.maxLength) wrong(`is longer than ${schema.maxLength}`);
  if (schema.pattern !== undefined && !new RegExp(schema.pattern, "u").test(value)) wrong(`does not match ${schema.pattern}`);
}

function arrays(schema, value, at, root, mistakes, depth, wrong) {
  if (value.length < schema.minItems) wrong(`has fewer than ${schema.minItems} entries`);
  if (value.length > schema.maxItems) wrong(`has more than ${schema.maxItems} entries`);
  if (schema.uniqueItems && new Set(value.map((each) => canonical(each))).size < value.length) wrong("has an entry twice");
  if (schema.items === undefined) return;
  value.forEach((each, n) => check(schema.items, each, `${at && `${at}.`}${n}`, root, mistakes, depth + 1));
}

function objects(schema, value, at, root, mistakes, depth, wrong) {
  const properties = schema.properties ?? {};
  for (const [name, inner] of Object.entries(properties)) {
    if (!Object.hasOwn(value, name) && inner?.default !== undefined && !PROTECTED.has(name)) value[name] = structuredClone(inner.default);
  }
  for (const name of schema.required ?? []) if (!Object.hasOwn(value, name)) wrong(`lacks ${name}`);
  for (const name of Object.keys(value)) {
    const where = at ? `${at}.${name}` : name;
    if (Object.hasOwn(properties, name)) check(properties[name], value[name], where, root, mistakes, depth + 1);
    else if (schema.additionalProperties === false) wrong(`has an unknown field ${name}`);
    else if (schema.additionalProperties !== undefined) check(schema.additionalProperties, value[name], where, root, mistakes, depth + 1);
  }
}

function same(one, other) {
  return canonical(one) === canonical(other);
}

function canonical(value) {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
}
