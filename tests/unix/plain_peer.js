// node plain_peer.js server|client PATH send|receive|echo|exchange: the far
// end of tool_plain.c, with the same verbs, made of nothing but Node's net
// module. See there for what the verbs mean.
'use strict';
const fs = require('fs');
const net = require('net');

const [role, path, verb] = process.argv.slice(2);
const sends = verb === 'send' || verb === 'exchange';
const input = sends ? fs.readFileSync(0) : Buffer.alloc(0);

function fail(error) {
  process.stderr.write(`plain_peer: ${error.message || error}\n`);
  process.exit(1);
}

function begin(socket) {
  let received = 0;
  const parts = [];
  let ended = false;
  socket.on('error', fail);
  socket.on('data', (data) => {
    if (verb === 'echo') {
      socket.write(data);
      return;
    }
    if (verb === 'send') fail('a sender has received something');
    parts.push(data);
    received += data.length;
    if (verb === 'exchange' && received === input.length) socket.end();
  });
  socket.on('end', () => {
    ended = true;
    if (verb === 'exchange' && received < input.length)
      fail('the end came too early');
  });
  socket.on('close', (failed) => {
    if (failed) return;
    if (!ended) fail('closed without an end');
    fs.writeSync(1, Buffer.from([])); // fails early if there is nowhere to go
    let rest = Buffer.concat(parts);
    while (rest.length > 0) rest = rest.subarray(fs.writeSync(1, rest));
  });
  // In pieces, so that the far end sees more than one.
  for (let at = 0, step = 1; at < input.length; at += step) {
    step = (step * 5) % 70001 + 1;
    socket.write(input.subarray(at, at + step));
  }
  if (verb === 'send' || (verb === 'exchange' && input.length === 0))
    socket.end();
  socket.resume();
}

if (role === 'server') {
  const server = net.createServer((socket) => {
    server.close();
    begin(socket);
  });
  server.on('error', fail);
  server.listen(path);
} else {
  const socket = net.connect(path, () => begin(socket));
  socket.on('error', fail);
}
