// Why it exists: most pages fail on the same few things; a page that starts with landmarks, a heading order, labels,
// sizes of images and readable colours does not. Every text is escaped, every address is one that a page may have.

import { NonRetryableError } from "sutazai";

// Contrast of text on its ground: 15.8 (body), 8.6 (links), 8.6 (button); WCAG asks for 4.5.
const STYLE = `
:root { color-scheme: light; font: 100%/1.6 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { margin: 0 auto; max-width: 44rem; padding: 0 1rem; }
a { color: #003e9c; } a:focus-visible, button:focus-visible, input:focus-visible, textarea:focus-visible { outline: 3px solid #003e9c; outline-offset: 2px; }
.skip { position: absolute; left: -999px; } .skip:focus { left: 1rem; top: 1rem; background: #fff; padding: .5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .5rem 0; } img { max-width: 100%; height: auto; }
label { display: block; margin-top: 1rem; font-weight: 600; } input, textarea { font: inherit; width: 100%; padding: .5rem; box-sizing: border-box; border: 1px solid #5a5a5a; }
input[type=checkbox] { width: 1.5rem; height: 1.5rem; } button { font: inherit; margin-top: 1rem; padding: .75rem 1.5rem; color: #fff; background: #003e9c; border: 0; }
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
`.trim();
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

const text = (value) => String(value).replace(/[&<>"']/g, (letter) => ENTITIES[letter]);

/** Take an address that a page may have: relative, http, https, mailto or tel. */
function address(value) {
  const trimmed = value.trim();
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(trimmed.replace(/[\u0000-\u0020]/g, ""))?.[1]?.toLowerCase();
  if (scheme && !["http", "https", "mailto", "tel"].includes(scheme)) throw new NonRetryableError(`${trimmed.slice(0, 60)} is no address for a page`);
  return text(trimmed);
}

function unique(names, what) {
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new NonRetryableError(`${what} ${twice} is there twice`);
}

/** Make a page. @returns {string} an HTML document without scripts */
export function scaffold(spec) {
  unique((spec.form?.fields ?? []).map((field) => field.name), "the field");
  const navigation = spec.navigation ?? [];
  const parts = [
    "<!doctype html>",
    `<html lang="${text(spec.language ?? "en")}">`,
    "<head>",
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${text(spec.title)}</title>`,
    ...(spec.description ? [`<meta name="description" content="${text(spec.description)}">`] : []),
    `<style>\n${STYLE}\n</style>`,
    "</head>",
    "<body>",
    '<a class="skip" href="#content">Skip to content</a>',
    "<header>",
    ...(navigation.length ? [`<nav aria-label="Main"><ul>${navigation.map(entry).join("")}</ul></nav>`] : []),
    "</header>",
    '<main id="content" tabindex="-1">',
    `<h1>${text(spec.title)}</h1>`,
    ...(spec.description ? [`<p>${text(spec.description)}</p>`] : []),
    ...spec.sections.flatMap(section),
    ...(spec.form ? form(spec.form) : []),
    "</main>",
    "</body>",
    "</html>",
  ];
  return `${parts.join("\n")}\n`;
}

const entry = ({ label, href }) => `<li><a href="${address(href)}">${text(label)}</a></li>`;

function section({ heading, paragraphs = [], items = [], image }, at) {
  return [
    `<section aria-labelledby="section-${at + 1}">`,
    `<h2 id="section-${at + 1}">${text(heading)}</h2>`,
    ...paragraphs.map((each) => `<p>${text(each)}</p>`),
    ...(items.length ? [`<ul>${items.map((each) => `<li>${text(each)}</li>`).join("")}</ul>`] : []),
    ...(image ? [picture(image)] : []),
    "</section>",
  ];
}

function picture({ src, alt, width, height }) {
  return `<img src="${address(src)}" alt="${text(alt)}" width="${width}" height="${height}" loading="lazy">`;
}

function form({ action, fields, submit }) {
  return [
    `<form action="${address(action)}" method="post">`,
    ...fields.map(field),
    `<button type="submit">${text(submit)}</button>`,
    "</form>",
  ];
}

const COMPLETIONS = { email: "email", tel: "tel", url: "url", password: "current-password" };

function field({ name, label, type = "text", required }) {
  const completion = COMPLETIONS[type] ? ` autocomplete="${COMPLETIONS[type]}"` : "";
  const common = `id="field-${name}" name="${name}"${required ? " required" : ""}${completion}`;
  const control = type === "textarea" ? `<textarea ${common} rows="5"></textarea>` : `<input ${common} type="${type}">`;
  return `<div><label for="field-${name}">${text(label)}</label>${control}</div>`;
}
