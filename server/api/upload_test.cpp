#include <thread>

#include "server/api/commit_reader.h"
#include "server/api/testing.h"

namespace pretrained::server {
namespace {

class UploadTest : public HubTest {
 protected:
  Repo repo = make_repo("m");
  std::string head(const std::string& ref = "main") {
    return git.resolve(repo.access.id, ref).value_or("");
  }
  std::string preupload_mode(const std::string& path, const std::string& sample, int64_t size,
                             Json::Object more = {}) {
    more["files"] = Json::Array{
        Json::Object{{"path", path}, {"sample", encode_base64(sample)}, {"size", size}}};
    auto answer = post("/api/models/alice/m/preupload/main", Json(more).dump(0), alice_token);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return text_at(answer.json(), "files.0.uploadMode");
  }
};

TEST_F(UploadTest, PreuploadChoosesAsTheHubDoes) {
  EXPECT_EQ(preupload_mode("README.md", "hello", 5), "regular");
  EXPECT_EQ(preupload_mode("model.bin", "hello", 5), "lfs");  // by .gitattributes
  EXPECT_EQ(preupload_mode("a/b/model.safetensors", "x", 50), "lfs");
  EXPECT_EQ(preupload_mode("big.txt", "text", (10 << 20) + 1), "lfs");
  EXPECT_EQ(preupload_mode("big.txt", "text", 10 << 20), "regular");
  EXPECT_EQ(preupload_mode("image.png", std::string("\0\1", 2), 200 << 10), "lfs");
  EXPECT_EQ(preupload_mode("image.png", std::string("\0\1", 2), 2 << 10), "regular");
  EXPECT_EQ(preupload_mode("utf8.txt", "gr\xc3\xbc\xc3", 200 << 10), "regular");  // cut in two
  EXPECT_EQ(preupload_mode("latin1.txt", "gr\xfc\xdf", 200 << 10), "lfs");
  EXPECT_EQ(preupload_mode("empty.bin", "", 0), "regular");
  EXPECT_EQ(preupload_mode("x.foo", "x", 9, {{"gitAttributes", "*.foo filter=lfs\n"}}), "lfs");
}

TEST_F(UploadTest, PreuploadTellsWhatIsThereAndWhatIsIgnored) {
  std::string large = "weights";
  store(repo, large);
  ASSERT_EQ(commit("alice/m", header_line("a") + file_line("a.txt", "hello\n") +
                                  lfs_line("m.bin", large) + file_line(".gitignore", "*.tmp\n"))
                .status,
            200);
  auto answer = post(
      "/api/models/alice/m/preupload/main",
      R"({"files":[{"path":"a.txt","sample":"","size":1},{"path":"m.bin","sample":"","size":1},)"
      R"({"path":"new","sample":"","size":1},{"path":"x.tmp","sample":"","size":1}]})",
      alice_token);
  auto json = answer.json();
  EXPECT_EQ(text_at(json, "files.0.oid"), "ce013625030ba8dba906f756967f9e9ca394464a");
  EXPECT_EQ(text_at(json, "files.1.oid"), sha256_hex(large));
  EXPECT_TRUE(at(json, "files.2.oid").is_null());
  EXPECT_EQ(at(json, "files.2.shouldIgnore"), Json(false));
  EXPECT_EQ(at(json, "files.3.shouldIgnore"), Json(true));
  EXPECT_EQ(text_at(json, "commitOid"), head());
}

TEST_F(UploadTest, PreuploadRefusesBadBodies) {
  for (const char* body : {"", "[]", "{", R"({"files":1})", R"({"files":[1]})",
                           R"({"files":[{"path":"a"}]})", R"({"files":[{"path":"a","size":-1}]})",
                           R"({"files":[{"path":"a","size":1,"sample":"?"}]})"})
    EXPECT_EQ(post("/api/models/alice/m/preupload/main", body, alice_token).status, 400) << body;
  auto absent = post("/api/models/alice/m/preupload/nope", R"({"files":[]})", alice_token);
  EXPECT_EQ(absent.status, 404);
  EXPECT_EQ(absent.header("X-Error-Code"), "RevisionNotFound");
}

TEST_F(UploadTest, CommitAnswersWhatClientsRead) {
  auto answer = commit("alice/m", header_line("first") + file_line("x/y.txt", "abc"));
  ASSERT_EQ(answer.status, 200) << answer.body;
  auto json = answer.json();
  EXPECT_EQ(at(json, "success"), Json(true));
  EXPECT_EQ(text_at(json, "commitOid"), head());
  EXPECT_EQ(text_at(json, "commitUrl"), "http://hub.test/alice/m/commit/" + head());
  EXPECT_EQ(at(json, "hookOutput"), Json(""));
  EXPECT_EQ(get("/alice/m/resolve/main/x/y.txt").body, "abc");
}

TEST_F(UploadTest, EveryOperation) {
  store(repo, "big bytes");
  ASSERT_EQ(commit("alice/m", header_line("a") + file_line("d/1", "1") + file_line("d/2", "2") +
                                  file_line("keep", "k") + lfs_line("m.bin", "big bytes"))
                .status,
            200);
  auto answer = commit("alice/m", header_line("b") + line("deletedFolder", {{"path", "d/"}}) +
                                      line("deletedFile", {{"path", "keep"}}) +
                                      line("lfsFile", {{"path", "copy.bin"},
                                                       {"algo", "sha256"},
                                                       {"oid", sha256_hex("big bytes")}}) +
                                      file_line("last", "1") + file_line("last", "2"));
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(get("/alice/m/resolve/main/d/1").status, 404);
  EXPECT_EQ(get("/alice/m/resolve/main/keep").status, 404);
  EXPECT_EQ(get("/alice/m/resolve/main/copy.bin").body, "big bytes");
  EXPECT_EQ(get("/alice/m/resolve/main/last").body, "2");
}

TEST_F(UploadTest, NoChangeMakesNoCommit) {
  std::string lines = header_line("a") + file_line("a", "1");
  commit("alice/m", lines);
  std::string before = head();
  auto again = commit("alice/m", lines);
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(text_at(again.json(), "commitOid"), before);
  EXPECT_EQ(head(), before);
}

TEST_F(UploadTest, AStaleParentIs412) {
  std::string first = head();
  auto with_parent = [&](const std::string& parent, const std::string& content) {
    return commit("alice/m", line("header", {{"summary", "s"}, {"parentCommit", parent}}) +
                                 file_line("a", content))
        .status;
  };
  EXPECT_EQ(with_parent(first, "1"), 200);
  EXPECT_EQ(with_parent(first, "2"), 412);
  EXPECT_EQ(with_parent(head().substr(0, 7), "2"), 200);
  EXPECT_EQ(with_parent(head().substr(0, 6), "3"), 412);
  EXPECT_EQ(with_parent("", "3"), 412);
}

TEST_F(UploadTest, WritersAtTheSameTimeLoseNothing) {
  std::vector<std::thread> writers;
  std::atomic<int> accepted = 0, refused = 0;
  for (int w = 0; w < 4; ++w)
    writers.emplace_back([&, w] {
      for (int i = 0; i < 5; ++i) {
        std::string path = std::to_string(w) + "-" + std::to_string(i);
        auto answer = commit("alice/m", header_line(path) + file_line(path, path));
        if (answer.status == 200)
          ++accepted;
        else
          ++refused;
        EXPECT_TRUE(answer.status == 200 || answer.status == 412) << answer.body;
      }
    });
  for (auto& writer : writers) writer.join();
  auto tree = get("/api/models/alice/m/tree/main").json();
  EXPECT_EQ(tree.get_if<Json::Array>()->size(), size_t(accepted) + 1);  // and .gitattributes
  EXPECT_GT(accepted, 10) << refused;
}

TEST_F(UploadTest, DeletingWhatIsNotThereIsEntryNotFound) {
  for (const char* key : {"deletedFile", "deletedFolder"}) {
    auto answer = commit("alice/m", header_line("a") + line(key, {{"path", "nope"}}));
    EXPECT_EQ(answer.status, 404);
    EXPECT_EQ(answer.header("X-Error-Code"), "EntryNotFound");
    EXPECT_EQ(answer.header("X-Repo-Commit"), head());
  }
}

TEST_F(UploadTest, LfsObjectsMustBeThisRepositorys) {
  std::string bytes = "private weights";
  Repo other = make_repo("other", true);
  store(other, bytes);
  EXPECT_EQ(commit("alice/m", header_line("a") + lfs_line("m.bin", bytes)).status, 400);
  store(repo, bytes);
  auto wrong = commit(
      "alice/m",
      header_line("a") +
          line("lfsFile",
               {{"path", "m.bin"}, {"algo", "sha256"}, {"oid", sha256_hex(bytes)}, {"size", 3}}));
  EXPECT_EQ(wrong.status, 400);
  EXPECT_EQ(commit("alice/m", header_line("a") + lfs_line("m.bin", bytes)).status, 200);
}

TEST_F(UploadTest, HostilePathsAreRefused) {
  std::string before = head();
  for (std::string path : {"../x", "a/../b", "/etc/passwd", ".git/config", "a/.GIT/config", "a//b",
                           "", ".", "a/./b", "git~1/config", ".git", "a/"})
    EXPECT_EQ(commit("alice/m", header_line("a") + file_line(path, "x")).status, 400) << path;
  EXPECT_EQ(commit("alice/m", header_line("a") + file_line(std::string("a\0b", 3), "x")).status,
            400);
  EXPECT_EQ(commit("alice/m", header_line("a") + file_line(std::string(5000, 'a'), "x")).status,
            400);
  EXPECT_EQ(head(), before);
}

TEST_F(UploadTest, HostileBodiesAreRefused) {
  std::string before = head();
  std::string many = header_line("a");
  for (int i = 0; i < 25'001; ++i) many += "{\"key\":\"deletedFile\",\"value\":{\"path\":\"a\"}}\n";
  EXPECT_EQ(commit("alice/m", many).status, 413);
  EXPECT_EQ(commit("alice/m", std::string(20 << 20, 'a')).status, 413);
  EXPECT_EQ(
      commit("alice/m", header_line("a") + file_line("a", std::string((10 << 20) + 1, 'a'))).status,
      413);
  EXPECT_EQ(commit("alice/m", "").status, 400);
  EXPECT_EQ(commit("alice/m", "\xff\xfe\n").status, 400);
  EXPECT_EQ(head(), before);
}

TEST_F(UploadTest, WhoMayCommit) {
  std::string lines = header_line("a") + file_line("a", "1");
  EXPECT_EQ(commit("alice/m", lines, "main", "").status, 401);
  EXPECT_EQ(commit("alice/m", lines, "main", alice_read_token).status, 403);
  EXPECT_EQ(commit("alice/m", lines, "main", bob_token).status, 403);
  make_repo("hidden", true);
  auto absent = commit("alice/hidden", lines, "main", bob_token);
  EXPECT_EQ(absent.status, 404);
  EXPECT_EQ(absent.header("X-Error-Code"), "RepoNotFound");
}

TEST_F(UploadTest, BranchesAreNotMadeByTheWay) {
  std::string lines = header_line("a") + file_line("a", "1");
  auto answer = commit("alice/m", lines, "new");
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.header("X-Error-Code"), "RevisionNotFound");
  EXPECT_EQ(commit("alice/m", lines, head()).status, 404);
  ASSERT_EQ(post("/api/models/alice/m/branch/dev%2Fx", "{}", alice_token).status, 200);
  EXPECT_EQ(commit("alice/m", lines, "dev%2Fx").status, 200);
  EXPECT_EQ(get("/alice/m/resolve/dev%2Fx/a").body, "1");
  EXPECT_EQ(get("/alice/m/resolve/main/a").status, 404);
}

TEST_F(UploadTest, MainOfAnEmptyRepositoryIsAccepted) {
  repos.publish(alice_caller, repo, {}, {{"refs/heads/main", "*", kNoOid}}, {});
  ASSERT_EQ(head(), "");
  EXPECT_EQ(preupload_mode("model.bin", "hello", 5), "regular");
  EXPECT_EQ(commit("alice/m", header_line("a") + file_line("a", "1"), "dev").status, 404);
  auto answer = commit("alice/m", header_line("a") + file_line("a", "1"));
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(get("/alice/m/resolve/main/a").body, "1");
}

TEST_F(UploadTest, PullRequestsOfReaders) {
  std::string lines = header_line("fix") + file_line("a", "1");
  std::string before = head();
  EXPECT_EQ(commit("alice/m", lines, "main?create_pr=1", "").status, 401);
  EXPECT_EQ(commit("alice/m", lines, "main?create_pr=1", alice_read_token).status, 403);
  auto answer = commit("alice/m", lines, "main?create_pr=1", bob_token);
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(text_at(answer.json(), "pullRequestUrl"), "http://hub.test/alice/m/discussions/1");
  EXPECT_EQ(text_at(answer.json(), "commitOid"), head("refs/pr/1"));
  EXPECT_EQ(head(), before);
  // More commits: by its author and by writers, by nobody else.
  std::string more = header_line("more") + file_line("b", "2");
  EXPECT_EQ(commit("alice/m", more, "refs%2Fpr%2F1", bob_token).status, 200);
  EXPECT_EQ(commit("alice/m", header_line("x") + file_line("c", "3"), "refs%2Fpr%2F1").status, 200);
  auto carol = accounts.create_user("carol");
  auto carol_token = accounts.create_token(carol.id, "write", "write").secret;
  EXPECT_EQ(commit("alice/m", more, "refs%2Fpr%2F1", carol_token).status, 403);
  EXPECT_EQ(commit("alice/m", more, "refs%2Fpr%2F2", bob_token).status, 403);
  EXPECT_EQ(get("/alice/m/resolve/refs%2Fpr%2F1/b").body, "2");
}

}  // namespace
}  // namespace pretrained::server
