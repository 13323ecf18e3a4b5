// The C library's resolver on a thread, and c-ares on sockets of node's own.
const dns = require('dns').promises;

async function main() {
  for (const name of process.argv.slice(1)) {
    for (const one of await dns.lookup(name, {all: true})) {
      console.log('lookup', name, one.address);
    }
    for (const address of await dns.resolve4(name)) {
      console.log('own', name, address);
    }
  }
}
main();
