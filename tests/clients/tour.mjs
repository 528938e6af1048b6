// The client library of Kubernetes for Node.js, driven against a real server.
//
// It says each step that it has done. At `restart`, whoever started it kills the server, starts it
// again, and writes a line.

import assert from 'node:assert/strict';
import readline from 'node:readline';
import { setTimeout as rest } from 'node:timers/promises';
import {
  CustomObjectsApi,
  KubeConfig,
  KubernetesObjectApi,
  PatchStrategy,
  Watch,
  makeInformer,
  setHeaderOptions,
} from '@kubernetes/client-node';

const group = 'opendispatch.dev';
const version = 'v1alpha1';
const at = { group, version, plural: 'agents' };
const patience = 60_000;

const agent = (name, labels = {}) => ({
  apiVersion: `${group}/${version}`,
  kind: 'Agent',
  metadata: { name, labels },
  spec: { agent: { command: {} }, suspend: true, idleTimeout: '15m' },
});

const done = (step) => console.log(`done ${step}`);

async function refused(code, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.code, code, String(error));
    return true;
  });
}

async function until(holds, what) {
  const end = Date.now() + patience;
  while (!(await holds())) {
    assert.ok(Date.now() < end, what);
    await rest(20);
  }
}

const as = (strategy) => setHeaderOptions('Content-Type', strategy);

async function customObjects(api) {
  const made = await api.createClusterCustomObject({ ...at, body: agent('one', { team: 'red' }) });
  assert.equal(made.metadata.generation, 1);
  const listed = await api.listClusterCustomObject({ ...at, labelSelector: 'team=red' });
  assert.deepEqual(listed.items.map((item) => item.metadata.name), ['one']);
  await refused(409, () => api.createClusterCustomObject({ ...at, body: agent('one') }));
  await refused(404, () => api.getClusterCustomObject({ ...at, name: 'none' }));
  const merge = { spec: { idleTimeout: '20m' } };
  const merged = await api.patchClusterCustomObject(
    { ...at, name: 'one', body: merge },
    as(PatchStrategy.MergePatch),
  );
  assert.equal(merged.spec.idleTimeout, '20m');
  const patch = [{ op: 'replace', path: '/spec/idleTimeout', value: '25m' }];
  const replaced = await api.patchClusterCustomObject(
    { ...at, name: 'one', body: patch },
    as(PatchStrategy.JsonPatch),
  );
  assert.equal(replaced.spec.idleTimeout, '25m');
  const stale = await api.getClusterCustomObject({ ...at, name: 'one' });
  await api.patchClusterCustomObject(
    { ...at, name: 'one', body: { metadata: { labels: { more: 'yes' } } } },
    as(PatchStrategy.MergePatch),
  );
  stale.spec.idleTimeout = '30m';
  await refused(409, () => api.replaceClusterCustomObject({ ...at, name: 'one', body: stale }));
  const fresh = await api.getClusterCustomObject({ ...at, name: 'one' });
  fresh.spec.idleTimeout = '30m';
  const written = await api.replaceClusterCustomObject({ ...at, name: 'one', body: fresh });
  assert.equal(written.metadata.labels.more, 'yes');
  await api.deleteClusterCustomObject({ ...at, name: 'one' });
  const gone = async () => (await api.listClusterCustomObject(at)).items.length === 0;
  await until(gone, 'the agent is gone');
  done('custom objects');
}

// The client that finds the resource of a kind by itself, as tools do that apply files.
async function anyObject(config) {
  const api = KubernetesObjectApi.makeApiClient(config);
  await api.create(agent('two'));
  const read = await api.read({ ...agent('two') });
  assert.equal(read.spec.suspend, true);
  const wanted = agent('two');
  wanted.spec.idleTimeout = '20m';
  const applied = await api.patch(
    wanted, undefined, undefined, 'tour', true, PatchStrategy.ServerSideApply,
  );
  assert.equal(applied.spec.idleTimeout, '20m');
  await api.delete(agent('two'));
  done('any object');
}

async function informer(config, api) {
  const path = `/apis/${group}/${version}/agents`;
  const informer = makeInformer(config, path, () => api.listClusterCustomObject(at));
  const seen = [];
  for (const event of ['add', 'update', 'delete']) {
    informer.on(event, (item) => seen.push([event, item.metadata.name, item.spec.idleTimeout].join(' ')));
  }
  let over = false;
  // What its documentation advises.
  informer.on('error', () => {
    if (!over) setTimeout(() => informer.start().catch(() => informer.start().catch(() => {})), 200);
  });
  await api.createClusterCustomObject({ ...at, body: agent('first') });
  await informer.start();
  await until(() => seen.includes('add first 15m'), `the first object: ${seen}`);
  const set = (name, idleTimeout) =>
    api.patchClusterCustomObject({ ...at, name, body: { spec: { idleTimeout } } }, as(PatchStrategy.MergePatch));
  await set('first', '20m');
  await until(() => seen.includes('update first 20m'), `a change: ${seen}`);
  console.log('restart');
  const lines = readline.createInterface({ input: process.stdin });
  await new Promise((resume) => lines.once('line', resume));
  lines.close();
  await set('first', '25m');
  await api.createClusterCustomObject({ ...at, body: agent('second') });
  await until(() => seen.includes('add second 15m'), `what came behind: ${seen}`);
  await until(() => seen.includes('update first 25m'), `what changed behind: ${seen}`);
  await api.deleteClusterCustomObject({ ...at, name: 'first' });
  await until(() => seen.some((line) => line.startsWith('delete first')), `what went: ${seen}`);
  assert.deepEqual(informer.list().map((item) => item.metadata.name), ['second']);
  over = true;
  await informer.stop();
  done('informer');
}

// A bare watch hears each change once, and its own end.
async function bareWatch(config, api) {
  const heard = [];
  let ended;
  const end = new Promise((resume) => (ended = resume));
  const query = { timeoutSeconds: 2 };
  await new Watch(config).watch(
    `/apis/${group}/${version}/agents`, query, (type, item) => heard.push(`${type} ${item.metadata.name}`), ended,
  );
  await api.createClusterCustomObject({ ...at, body: agent('third') });
  await until(() => heard.includes('ADDED third'), `a watch: ${heard}`);
  await end;
  assert.equal(heard.filter((line) => line === 'ADDED third').length, 1);
  done('watch');
}

const config = new KubeConfig();
config.loadFromDefault();
const api = config.makeApiClient(CustomObjectsApi);
await customObjects(api);
await anyObject(config);
await informer(config, api);
await bareWatch(config, api);
done('all');
process.exit(0);
