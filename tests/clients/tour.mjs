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
const patience = 60_000;

// One object of each kind that people declare, which does nothing by itself, with the field of it
// that the tour changes and values for that.
const idle = { agent: { command: {} }, suspend: true };
const job = { agent: { command: {} }, task: 'true' };
const times = ['15m', '20m', '25m', '35m'];
const kinds = [
  { plural: 'agents', kind: 'Agent', path: ['idleTimeout'], spec: { ...idle, idleTimeout: '15m' } },
  { plural: 'jobs', kind: 'Job', path: ['ttlAfterFinished'], spec: { ...job, ttlAfterFinished: '15m' } },
  {
    plural: 'fleets',
    kind: 'Fleet',
    path: ['strategy', 'maxUnavailable'],
    values: [1, 2, 3, 4],
    spec: {
      suspend: true,
      generate: { replicas: 2 },
      strategy: { maxUnavailable: 1 },
      template: { kind: 'Agent', spec: idle },
    },
  },
  {
    plural: 'schedules',
    kind: 'Schedule',
    path: ['startingDeadline'],
    spec: { suspend: true, schedule: '0 5 * * *', startingDeadline: '15m', jobTemplate: { spec: job } },
  },
  {
    plural: 'sources',
    kind: 'Source',
    path: ['interval'],
    spec: { suspend: true, from: { directory: { path: 'declared' } }, interval: '15m' },
  },
  {
    plural: 'overrides',
    kind: 'Override',
    path: ['expiresAfter'],
    spec: { target: { kind: 'Agent', name: 'nobody' }, patch: { idleTimeout: '1h' }, expiresAfter: '15m' },
  },
].map((it) => ({ values: times, ...it, at: { group, version, plural: it.plural } }));

const object = ({ kind, spec }, name, labels = {}) => ({
  apiVersion: `${group}/${version}`,
  kind,
  metadata: { name, labels },
  spec: structuredClone(spec),
});

// What a field of a spec holds, and a patch that sets it.
const found = ({ path }, item) => path.reduce((at, step) => at[step], item.spec);
const changed = ({ path }, value) => ({ spec: path.reduceRight((inner, step) => ({ [step]: inner }), value) });

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

// A change of what is there, made again where somebody else, such as the controller, wrote meanwhile.
async function onTop(write) {
  let written;
  await until(async () => {
    try {
      written = await write();
      return true;
    } catch (error) {
      assert.equal(error.code, 409, String(error));
      return false;
    }
  }, 'a write on top of what is there');
  return written;
}

async function gone(api, at, name) {
  await until(async () => {
    try {
      await api.getClusterCustomObject({ ...at, name });
      return false;
    } catch (error) {
      assert.equal(error.code, 404, String(error));
      return true;
    }
  }, `${at.plural}: ${name} is gone`);
}

async function customObjects(api) {
  for (const it of kinds) {
    const { at, values, path } = it;
    const tour = { ...at, name: 'tour' };
    const made = await api.createClusterCustomObject({ ...at, body: object(it, 'tour', { team: 'red' }) });
    assert.equal(made.metadata.generation, 1);
    const listed = await api.listClusterCustomObject({ ...at, labelSelector: 'team=red' });
    assert.deepEqual(listed.items.map((item) => item.metadata.name), ['tour']);
    const none = await api.listClusterCustomObject({ ...at, labelSelector: 'team=blue' });
    assert.deepEqual(none.items, []);
    await refused(409, () => api.createClusterCustomObject({ ...at, body: object(it, 'tour') }));
    await refused(404, () => api.getClusterCustomObject({ ...at, name: 'none' }));
    const unknown = object(it, 'bad');
    unknown.spec.nothing = true;
    await refused(422, () => api.createClusterCustomObject({ ...at, body: unknown }));

    const patch = (body, strategy) => api.patchClusterCustomObject({ ...tour, body }, as(strategy));
    const merged = await patch(changed(it, values[1]), PatchStrategy.MergePatch);
    assert.equal(found(it, merged), values[1]);
    const pointer = ['', 'spec', ...path].join('/');
    const operations = [{ op: 'replace', path: pointer, value: values[2] }];
    assert.equal(found(it, await patch(operations, PatchStrategy.JsonPatch)), values[2]);

    const stale = await api.getClusterCustomObject(tour);
    await patch({ metadata: { labels: { more: 'yes' } } }, PatchStrategy.MergePatch);
    stale.metadata.labels.late = 'yes';
    await refused(409, () => api.replaceClusterCustomObject({ ...tour, body: stale }));
    const written = await onTop(async () => {
      const fresh = await api.getClusterCustomObject(tour);
      fresh.metadata.labels.late = 'yes';
      return api.replaceClusterCustomObject({ ...tour, body: fresh });
    });
    assert.deepEqual(written.metadata.labels, { team: 'red', more: 'yes', late: 'yes' });

    await api.createClusterCustomObject({ ...at, body: object(it, 'zweite') });
    const first = await api.listClusterCustomObject({ ...at, limit: 1 });
    assert.deepEqual(first.items.map((item) => item.metadata.name), ['tour']);
    const second = await api.listClusterCustomObject({ ...at, limit: 1, _continue: first.metadata._continue ?? first.metadata.continue });
    assert.deepEqual(second.items.map((item) => item.metadata.name), ['zweite']);
    await api.deleteClusterCustomObject({ ...tour, propagationPolicy: 'Foreground' });
    await gone(api, at, 'tour');
    await api.deleteCollectionClusterCustomObject({ ...at });
    await gone(api, at, 'zweite');
  }
  done('custom objects');
}

// The client that finds the resource of a kind by itself, as tools do that apply files.
async function anyObject(config, custom) {
  const api = KubernetesObjectApi.makeApiClient(config);
  for (const it of kinds) {
    await api.create(object(it, 'tour'));
    const read = await api.read(object(it, 'tour'));
    assert.equal(found(it, read), it.values[0]);
    const listed = await api.list(`${group}/${version}`, it.kind);
    assert.deepEqual(listed.items.map((item) => item.metadata.name), ['tour']);
    const apply = (value, force, manager = 'tour') => {
      const wanted = object(it, 'tour');
      it.path.slice(0, -1).reduce((at, step) => at[step], wanted.spec)[it.path.at(-1)] = value;
      return api.patch(wanted, undefined, undefined, manager, force, PatchStrategy.ServerSideApply);
    };
    await refused(409, () => apply(it.values[1], false));
    assert.equal(found(it, await apply(it.values[1], true)), it.values[1]);
    await refused(409, () => apply(it.values[2], false, 'another'));
    await api.delete(object(it, 'tour'));
    await gone(custom, it.at, 'tour');
  }
  done('any object');
}

// The number of a Fleet's members, under the name that all clients know.
async function scale(api) {
  const it = kinds.find(({ kind }) => kind === 'Fleet');
  const fleet = object(it, 'tour');
  fleet.spec.suspend = false;
  const tour = { ...it.at, name: 'tour' };
  await api.createClusterCustomObject({ ...it.at, body: fleet });
  const read = await api.getClusterCustomObjectScale(tour);
  assert.deepEqual([read.kind, read.spec.replicas], ['Scale', 2]);
  await api.patchClusterCustomObjectScale({ ...tour, body: { spec: { replicas: 3 } } }, as(PatchStrategy.MergePatch));
  const here = async () => (await api.getClusterCustomObjectScale(tour)).status.replicas;
  await until(async () => (await here()) === 3, 'three members');
  await refused(409, () => api.replaceClusterCustomObjectScale({ ...tour, body: read }));
  await onTop(async () => {
    const fresh = await api.getClusterCustomObjectScale(tour);
    fresh.spec.replicas = 1;
    return api.replaceClusterCustomObjectScale({ ...tour, body: fresh });
  });
  await until(async () => (await here()) === 1, 'one member');
  await api.deleteClusterCustomObject(tour);
  await gone(api, it.at, 'tour');
  done('scale');
}

// An informer of each kind, all at once, over a crash of the server.
async function informers(config, api) {
  const followed = kinds.map((it) => {
    const path = `/apis/${group}/${version}/${it.plural}`;
    const informer = makeInformer(config, path, () => api.listClusterCustomObject(it.at));
    const seen = [];
    for (const event of ['add', 'update', 'delete']) {
      informer.on(event, (item) => seen.push([event, item.metadata.name, found(it, item)].join(' ')));
    }
    const self = { it, informer, seen, over: false };
    // What its documentation advises: it is started anew, until that works.
    const again = () => !self.over && setTimeout(() => informer.start().catch(again), 200);
    informer.on('error', again);
    self.heard = (line, what) => until(() => seen.some((it) => it.startsWith(line)), `${path}: ${what}: ${seen}`);
    self.set = (name, value) =>
      api.patchClusterCustomObject({ ...it.at, name, body: changed(it, value) }, as(PatchStrategy.MergePatch));
    return self;
  });
  for (const { it, informer, heard, set } of followed) {
    await api.createClusterCustomObject({ ...it.at, body: object(it, 'first') });
    await informer.start();
    await heard(`add first ${it.values[0]}`, 'the first object');
    await set('first', it.values[1]);
    await heard(`update first ${it.values[1]}`, 'a change');
  }
  console.log('restart');
  const lines = readline.createInterface({ input: process.stdin });
  await new Promise((resume) => lines.once('line', resume));
  lines.close();
  for (const { it, set } of followed) {
    await set('first', it.values[2]);
    await api.createClusterCustomObject({ ...it.at, body: object(it, 'second') });
  }
  for (const self of followed) {
    const { it, informer, heard } = self;
    await heard(`add second ${it.values[0]}`, 'what came behind');
    await heard(`update first ${it.values[2]}`, 'what changed behind');
    await api.deleteClusterCustomObject({ ...it.at, name: 'first' });
    await heard('delete first', 'what went');
    assert.deepEqual(informer.list().map((item) => item.metadata.name), ['second']);
    self.over = true;
    await informer.stop();
    await api.deleteClusterCustomObject({ ...it.at, name: 'second' });
  }
  for (const { it } of followed) await gone(api, it.at, 'second');
  done('informers');
}

// A bare watch hears each change once, and its own end.
async function bareWatch(config, api) {
  for (const it of kinds) {
    const heard = [];
    let ended;
    const end = new Promise((resume) => (ended = resume));
    await new Watch(config).watch(
      `/apis/${group}/${version}/${it.plural}`,
      { timeoutSeconds: 2, allowWatchBookmarks: true },
      (type, item) => heard.push(`${type} ${item.metadata.name}`),
      ended,
    );
    await api.createClusterCustomObject({ ...it.at, body: object(it, 'third') });
    await until(() => heard.includes('ADDED third'), `a watch: ${heard}`);
    await end;
    assert.equal(heard.filter((line) => line === 'ADDED third').length, 1);
    assert.ok(heard.at(-1).startsWith('BOOKMARK'), `its end says how far it came: ${heard}`);
    await api.deleteClusterCustomObject({ ...it.at, name: 'third' });
    await gone(api, it.at, 'third');
  }
  done('watch');
}

// A place in the history that is not there is told, and a list and a watch from there help.
async function expired(config, api) {
  const it = kinds[0];
  const path = `/apis/${group}/${version}/${it.plural}`;
  const listed = await api.listClusterCustomObject(it.at);
  const follow = async (resourceVersion, heard) => {
    let ended;
    const end = new Promise((resume) => (ended = resume));
    await new Watch(config).watch(path, { resourceVersion, timeoutSeconds: 1 }, heard, ended);
    return end;
  };
  const lost = String(Number(listed.metadata.resourceVersion) + 1_000_000);
  const error = await follow(lost, () => assert.fail('there is nothing to hear'));
  assert.equal(error?.statusCode ?? error?.code, 410, String(error));
  await api.createClusterCustomObject({ ...it.at, body: object(it, 'after') });
  const heard = [];
  await follow(listed.metadata.resourceVersion, (type, item) => heard.push(`${type} ${item.metadata.name}`));
  assert.equal(heard[0], 'ADDED after', String(heard));
  await api.deleteClusterCustomObject({ ...it.at, name: 'after' });
  done('expired');
}

const config = new KubeConfig();
config.loadFromDefault();
const api = config.makeApiClient(CustomObjectsApi);
await customObjects(api);
await anyObject(config, api);
await scale(api);
await informers(config, api);
await bareWatch(config, api);
await expired(config, api);
done('all');
process.exit(0);
