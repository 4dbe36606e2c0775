// What a Node program does with etcd3. ../README.md says how the test talks to it.
'use strict';

const { createHash } = require('crypto');
const readline = require('readline');
const { Etcd3, Range } = require('etcd3');

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Has the test do something and waits until it is done.
async function ask(what) {
  console.log('?', what);
  if ((await lines.next()).done) throw new Error('the test is gone');
}

async function refused(promise) {
  try {
    console.log('not refused', await promise);
  } catch (error) {
    console.log('refused', error.constructor.name, error.message);
  }
}

async function kv(client) {
  for (let number = 0; number < 5; number++) {
    const put = await client.put(`kv/${number}`).value(`value ${number}`);
    console.log('put', put.header.revision);
  }
  const over = await client.put('kv/1').value('other').getPrevious();
  console.log('put over', String(over.value), over.mod_revision);
  console.log('get', await client.get('kv/1').string(), await client.get('none').string());
  const all = () => client.getAll().prefix('kv/');
  console.log('strings', JSON.stringify(await all().strings()));
  console.log('keys', JSON.stringify(await all().limit(2).sort('Key', 'Descend').keys()));
  console.log('count', await all().count(), await all().revision(4).count());
  const gone = await client.delete().range(new Range('kv/3', 'kv/9')).getPrevious();
  console.log('deleted', gone.map(kv => String(kv.key)).join());
  await refused(client.put('').value('no key'));
}

async function txn(client) {
  for (const expected of ['other', 'something else']) {
    const answer = await client
      .if('kv/1', 'Value', '==', expected)
      .and('none', 'Version', '==', 0)
      .then(client.put('txn/a').value('then'), client.get('kv/1'), client.delete().key('kv/0'))
      .else(client.get('txn/a'), client.put('txn/b').value('else'))
      .commit();
    console.log('txn', answer.succeeded, answer.responses.map(one => one.response).join());
  }
  await refused(client.if('none', 'Version', '==', 0).then(client.put('twice').value('1'), client.put('twice').value('2')).commit());
}

// The events of a watcher, one after the other.
function events(watcher) {
  const seen = [], waiting = [];
  const tell = (kind, kv, previous) => {
    const text = [kind, kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, previous && previous.value].map(String).join(' ');
    waiting.length > 0 ? waiting.shift()(text) : seen.push(text);
  };
  watcher.on('put', (kv, previous) => tell('put', kv, previous));
  watcher.on('delete', (kv, previous) => tell('delete', kv, previous));
  return async () => console.log('event', seen.length > 0 ? seen.shift() : await new Promise(resolve => waiting.push(resolve)));
}

async function watch(client) {
  const watcher = await client.watch().prefix('watch/').withPreviousKV().create();
  const next = events(watcher);
  const first = (await client.put('watch/a').value('1')).header.revision;
  await client.put('watch/a').value('2');
  await client.delete().key('watch/a');
  for (let count = 0; count < 3; count++) await next();
  const past = await client.watch().prefix('watch/').startRevision(first).create();
  const earlier = events(past);
  for (let count = 0; count < 3; count++) await earlier();
  await watcher.cancel();
  await past.cancel();
}

// The library goes on by itself after the server was killed.
async function resume(client) {
  const watcher = await client.watch().prefix('resume/').create();
  const next = events(watcher);
  for (let number = 0; number < 3; number++) {
    if (number > 0) await ask('restart');
    for (;;) {
      try {
        await client.put(`resume/${number}`).value('');
        break;
      } catch (error) {
        console.log('#', error.message);
        await new Promise(resolve => setTimeout(resolve, 20));
      }
    }
    await next();
  }
  await watcher.cancel();
}

async function compaction(client) {
  const { revision } = (await client.put('compaction').value('')).header;
  await client.kv.compact({ revision, physical: true });
  await refused(client.kv.compact({ revision }));
  await refused(client.get('compaction').revision(Number(revision) - 1).string());
}

async function maintenance(client) {
  const status = await client.maintenance.status();
  console.log('status', status.version, Number(status.dbSize) > 0, Number(status.raftTerm) >= 2);
  console.log('hash', Number((await client.maintenance.hash()).hash) !== 0);
  await client.maintenance.defragment();
  const alarms = await client.maintenance.alarm({ action: 'Get', alarm: 'None' });
  const { members } = await client.cluster.memberList({ linearizable: true });
  console.log('alarms', alarms.alarms.length, 'members', members.map(member => member.name).join());
}

async function snapshot(client) {
  const stream = await client.maintenance.snapshot();
  const pieces = [];
  await new Promise((resolve, reject) => {
    stream.on('data', piece => pieces.push(Buffer.from(piece.blob)));
    stream.on('end', resolve);
    stream.on('error', reject);
  });
  const file = Buffer.concat(pieces);
  const sum = createHash('sha256').update(file.subarray(0, -32)).digest();
  console.log('snapshot', sum.equals(file.subarray(-32)));
}

async function main() {
  const client = new Etcd3({ hosts: `http://${process.argv[2]}` });
  for (const step of [kv, txn, watch, resume, compaction, maintenance, snapshot]) {
    console.log('==', step.name);
    await step(client);
  }
  client.close();
  console.log('== done');
  process.exit(0);
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
