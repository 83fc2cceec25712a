// Checks AsyncAPI documents with @asyncapi/parser: node deploy/ci/asyncapi-check.mjs FILE...
// The parser is looked for beside this file (npm install --prefix deploy/ci), then in the working directory.
// Exit code 0: every document is valid. 1: one is not, each problem on a line of its own. 2: no file given, or no parser.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error("usage: node asyncapi-check.mjs FILE...");
  process.exit(2);
}

function parserModule() {
  for (const place of [import.meta.url, join(process.cwd(), "package.json")]) {
    try {
      return createRequire(place)("@asyncapi/parser");
    } catch (error) {
      if (error.code !== "MODULE_NOT_FOUND") throw error;
    }
  }
  console.error("@asyncapi/parser is not installed: npm install --prefix deploy/ci");
  process.exit(2);
}

const { Parser, DiagnosticSeverity } = parserModule();
// Draft 3.0.0 is what we write; that a newer minor exists is no fault of the document.
const parser = new Parser({ ruleset: { rules: { "asyncapi-latest-version": "off" } } });
let bad = 0;
for (const file of files) {
  const { document, diagnostics } = await parser.parse(await readFile(file, "utf8"), { source: file });
  const problems = diagnostics.filter((each) => each.severity <= (DiagnosticSeverity?.Warning ?? 1));
  for (const each of problems) {
    console.error(`${file}:${each.range.start.line + 1}: ${each.code}: ${each.message} (${each.path.join("/")})`);
  }
  if (!document || problems.length > 0) bad += 1;
  else console.log(`${file}: valid, ${document.allChannels().length} channels, ${document.allMessages().length} messages`);
}
process.exit(bad === 0 ? 0 : 1);
