// Why it exists: an agent's folder has no node_modules; what it imports by name is this runtime, or installed beside it.

const HERE = import.meta.url;

/** Resolve as Node does, then from here. */
export async function resolve(specifier, context, nextResolve) {
  if (specifier === "sutazai") return { url: new URL("./sutazai.mjs", HERE).href, shortCircuit: true };
  try {
    return await nextResolve(specifier, context);
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND" || /^[./]|^file:/.test(specifier)) throw error;
    return nextResolve(specifier, { ...context, parentURL: HERE });
  }
}
