// Compiles the contracts with npm's solc and writes artifacts/NAME.json: ABI, selectors, code and
// the hash of the sources. With --check it writes nothing and fails where an artifact is stale.
"use strict";

const { createHash } = require("node:crypto");
const { existsSync, readFileSync, readdirSync, writeFileSync } = require("node:fs");
const path = require("node:path");
const { keccak256 } = require("js-sha3");
const solc = require("solc");

const ROOT = path.join(__dirname, "..");
const CONTRACTS = {
  Settlement: "src/Settlement.sol",
  TestToken: "src/TestToken.sol",
  StoredTrades: "src/bench/StoredTrades.sol",
};

/** The compiler's settings, as forge reads them too. */
function settings() {
  const text = readFileSync(path.join(ROOT, "foundry.toml"), "utf8");
  const value = (name) => {
    const found = text.match(new RegExp(`^${name} *= *"?([\\w.]+)"?`, "m"));
    if (!found) throw new Error(`foundry.toml has no ${name}`);
    return found[1];
  };
  return {
    evmVersion: value("evm_version"),
    optimizer: { enabled: true, runs: Number(value("optimizer_runs").replaceAll("_", "")) },
    viaIR: value("via_ir") === "true",
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: {
      "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] },
    },
  };
}

function ownSources() {
  return readdirSync(path.join(ROOT, "src"), { recursive: true })
    .map((name) => `src/${name.split(path.sep).join("/")}`)
    .filter((name) => name.endsWith(".sol"))
    .sort();
}

/** One hash over all that the code is made from: our sources, the settings, locked packages. */
function sourceHash() {
  const hash = createHash("sha256");
  const lock = JSON.parse(readFileSync(path.join(ROOT, "package-lock.json"), "utf8")).packages;
  const parts = ownSources().map((name) => [name, readFileSync(path.join(ROOT, name), "utf8")]);
  for (const name of ["@openzeppelin/contracts", "solc"]) {
    parts.push([name, lock[`node_modules/${name}`].integrity]);
  }
  const { outputSelection, ...compiler } = settings();
  parts.push(["settings", JSON.stringify(compiler)]);
  for (const [name, text] of parts) hash.update(`${name}\0${text}\0`);
  return hash.digest("hex");
}

function compile() {
  const read = (name) => {
    const own = path.join(ROOT, name);
    const file = existsSync(own) ? own : path.join(ROOT, "node_modules", name);
    return { contents: readFileSync(file, "utf8") };
  };
  const sources = {};
  for (const name of ownSources()) sources[name] = { content: read(name).contents };
  const input = { language: "Solidity", sources, settings: settings() };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
  const messages = (output.errors ?? []).filter(
    (message) => message.severity === "error" || message.sourceLocation?.file.startsWith("src/"),
  );
  for (const message of messages) console.error(message.formattedMessage);
  if (messages.length) throw new Error("the contracts must compile without a warning");
  return output.contracts;
}

/** The canonical type of an ABI argument: structs as the tuples that they are. */
function typeOf(argument) {
  if (!argument.type.startsWith("tuple")) return argument.type;
  return `(${argument.components.map(typeOf).join(",")})${argument.type.slice(5)}`;
}

/** Selectors of functions and errors, topics of events, by signature. */
function identifiers(abi) {
  const found = { functions: {}, errors: {}, events: {} };
  for (const item of abi) {
    const kind = found[`${item.type}s`];
    if (!kind) continue;
    const signature = `${item.name}(${item.inputs.map(typeOf).join(",")})`;
    const hash = keccak256(signature);
    kind[signature] = item.type === "event" ? hash : hash.slice(0, 8);
  }
  return found;
}

/** The errors of libraries that a contract uses can come back from it, but are not in its ABI. */
function withLibraryErrors(abi, contracts) {
  const errors = ["Batches", "Verification"]
    .flatMap((name) => contracts[`src/${name}.sol`]?.[name]?.abi ?? [])
    .filter((item) => item.type === "error");
  const known = new Set(abi.map((item) => `${item.type} ${item.name}`));
  return abi.concat(errors.filter((item) => !known.has(`${item.type} ${item.name}`)));
}

function artifacts() {
  const contracts = compile();
  const hash = sourceHash();
  return Object.entries(CONTRACTS).map(([name, file]) => {
    const { abi: own, evm } = contracts[file][name];
    const abi = name === "Settlement" ? withLibraryErrors(own, contracts) : own;
    const artifact = {
      name,
      compiler: solc.version(),
      sourceHash: hash,
      bytecode: `0x${evm.bytecode.object}`,
      runtime: `0x${evm.deployedBytecode.object}`,
      identifiers: identifiers(abi),
      abi,
    };
    return [path.join(ROOT, "artifacts", `${name}.json`), JSON.stringify(artifact, null, 1) + "\n"];
  });
}

const check = process.argv.includes("--check");
let stale = 0;
for (const [file, text] of artifacts()) {
  const name = path.relative(ROOT, file);
  if (!check) writeFileSync(file, text);
  else if (!existsSync(file) || readFileSync(file, "utf8") !== text) {
    console.error(`${name} is stale: run 'make contracts' and commit it`);
    stale += 1;
  } else console.log(`${name} is fresh`);
}
process.exit(stale ? 1 : 0);
