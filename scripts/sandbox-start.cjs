// Starts the program of program.js, which lies beside it, with the code that V8 made of it when it was built
// (program.code), so that nothing is compiled anew. `--make-code` makes that file: of all that has been compiled when
// the program is loaded.
//
// The code is of no use to another V8, or when the source has changed: then V8 refuses it and compiles.
'use strict';
const { readFileSync, writeFileSync } = require('node:fs');
const { Script } = require('node:vm');

const filename = `${__dirname}/program.js`;
const making = process.argv[2] === '--make-code';
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
if (making) writeFileSync(`${__dirname}/program.code`, script.createCachedData());
else program.exports.main(process.argv.slice(2));
