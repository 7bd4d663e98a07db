// Starts the program of program.js, which lies beside it, with the code that V8 made of it when it was built
// (program.code), so that nothing is compiled anew. `--make-code` makes that file: of all functions, whether loading the
// program calls them or not.
//
// The code is of no use to another V8, or when the source has changed: then V8 refuses it and compiles.
'use strict';
const { readFileSync, writeFileSync } = require('node:fs');
const { setFlagsFromString } = require('node:v8');
const { Script } = require('node:vm');

const filename = `${__dirname}/program.js`;
const making = process.argv[2] === '--make-code';
if (making) setFlagsFromString('--no-lazy');
let cachedData;
if (!making) {
  try {
    cachedData = readFileSync(`${__dirname}/program.code`);
  } catch {
    // Only slower.
  }
}
const source = `(function (require, module, __dirname) {${readFileSync(filename, 'latin1')}\n})`;
const script = new Script(source, { filename, cachedData });
const program = { exports: {} };
script.runInThisContext()(require, program, __dirname);
if (making) {
  // V8 takes the file only under the flags that it was made with.
  setFlagsFromString('--lazy');
  writeFileSync(`${__dirname}/program.code`, script.createCachedData());
} else {
  program.exports.main(process.argv.slice(2));
}
