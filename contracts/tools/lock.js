// Writes package-lock.json anew without the registry's host in it: npm takes each package from
// whatever registry it is set up for and checks its hash.
"use strict";

const { execFileSync } = require("node:child_process");
const { readFileSync, rmSync, writeFileSync } = require("node:fs");
const path = require("node:path");

const root = path.join(__dirname, "..");
const file = path.join(root, "package-lock.json");
rmSync(file, { force: true });
execFileSync("npm", ["install", "--package-lock-only"], { cwd: root, stdio: "inherit" });
const lock = JSON.parse(readFileSync(file, "utf8"));
for (const entry of Object.values(lock.packages)) {
  delete entry.resolved;
  delete entry.funding;
}
writeFileSync(file, JSON.stringify(lock, null, 2) + "\n");
