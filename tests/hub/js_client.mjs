// @huggingface/hub does everything it can do; `node js_client.mjs URL TOKEN` exits 0 when all of it held.
import assert from "node:assert";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import * as hub from "@huggingface/hub";

const [hubUrl, accessToken] = process.argv.slice(2);
const common = { hubUrl, accessToken };
const repo = { type: "model", name: "alice/js" };
const big = new Uint8Array(12 * 1024 * 1024).map((_, i) => (i * 2654435761) >>> 13);

const me = await hub.whoAmI(common);
assert.equal(me.name, "alice");
assert.ok((await hub.createRepo({ ...common, repo, private: false })).repoUrl.endsWith("alice/js"));
const done = await hub.uploadFiles({
  ...common, repo, commitTitle: "from js",
  files: [
    { path: "a.txt", content: new Blob(["hello"]) },
    { path: "sub/dir/b.json", content: new Blob(['{"x": 1}']) },
    { path: "big.bin", content: new Blob([big]) },
  ],
  useXet: process.env.HUB_TEST_XET !== "0",
});
assert.match(done.commit.oid, /^[0-9a-f]{40}$/);
const seen = [];
for await (const file of hub.listFiles({ ...common, repo, recursive: true, expand: true })) seen.push(file);
assert.deepEqual(seen.filter((f) => f.type === "file").map((f) => f.path).sort(), [".gitattributes", "a.txt", "big.bin", "sub/dir/b.json"]);
assert.equal(seen.find((f) => f.path === "big.bin").size, big.length);
assert.equal(seen.find((f) => f.path === "a.txt").lastCommit.id, done.commit.oid);
assert.equal(await (await hub.downloadFile({ ...common, repo, path: "a.txt" })).text(), "hello");
for (const xet of [true, false]) {
  const blob = await hub.downloadFile({ ...common, repo, path: "big.bin", xet });
  assert.deepEqual(new Uint8Array(await blob.arrayBuffer()), big);
  const part = await (await hub.downloadFile({ ...common, repo, path: "big.bin", xet })).slice(1000, 200000).arrayBuffer();
  assert.deepEqual(new Uint8Array(part), big.slice(1000, 200000));
}
const info = await hub.fileDownloadInfo({ ...common, repo, path: "big.bin" });
assert.equal(info.size, big.length);
assert.equal(await hub.fileDownloadInfo({ ...common, repo, path: "absent" }), null);
assert.equal(await hub.fileExists({ ...common, repo, path: "a.txt" }), true);
assert.equal(await hub.fileExists({ ...common, repo, path: "absent" }), false);
const commits = [];
for await (const commit of hub.listCommits({ ...common, repo })) commits.push(commit.title);
assert.deepEqual(commits, ["from js", "initial commit"]);
assert.equal(await hub.countCommits({ ...common, repo }), 2);
const paths = await hub.pathsInfo({ ...common, repo, paths: ["a.txt", "big.bin", "absent"], expand: true });
assert.deepEqual(paths.map((p) => p.path).sort(), ["a.txt", "big.bin"]);
assert.equal((await hub.modelInfo({ ...common, name: "alice/js" })).name, "alice/js");
assert.equal(await hub.repoExists({ ...common, repo }), true);
assert.equal(await hub.repoExists({ ...common, repo: { type: "model", name: "alice/absent" } }), false);
const models = [];
for await (const model of hub.listModels({ ...common, search: { owner: "alice" } })) models.push(model.name);
assert.ok(models.includes("alice/js"));
await hub.createBranch({ ...common, repo, branch: "dev/x" });
await hub.uploadFiles({ ...common, repo, branch: "dev/x", files: [{ path: "on-branch.txt", content: new Blob(["b"]) }] });
const onBranch = [];
for await (const file of hub.listFiles({ ...common, repo, revision: "dev/x" })) onBranch.push(file.path);
assert.ok(onBranch.includes("on-branch.txt"));
assert.equal(await (await hub.downloadFile({ ...common, repo, path: "on-branch.txt", revision: "dev/x" })).text(), "b");
await hub.deleteBranch({ ...common, repo, branch: "dev/x" });
await hub.deleteFiles({ ...common, repo, paths: ["a.txt"] });
assert.equal(await hub.fileExists({ ...common, repo, path: "a.txt" }), false);
const pull = await hub.uploadFiles({ ...common, repo, isPullRequest: true, files: [{ path: "pr.txt", content: new Blob(["p"]) }] });
assert.match(pull.pullRequestUrl, /alice\/js\/discussions\/1$/);
const cacheDir = mkdtempSync(path.join(tmpdir(), "hub-js-"));
const snapshot = await hub.snapshotDownload({ ...common, repo, cacheDir });
assert.deepEqual(new Uint8Array(readFileSync(path.join(snapshot, "big.bin"))), big);
await assert.rejects(hub.uploadFiles({ hubUrl, repo, files: [{ path: "x", content: new Blob(["x"]) }] }), (e) => e.statusCode === 401 || e.statusCode === 403);
await hub.deleteRepo({ ...common, repo });
assert.equal(await hub.repoExists({ ...common, repo }), false);
console.log("js client: everything held");
