#include <fstream>

#include "pretrained/base/files.h"
#include "pretrained/base/process.h"
#include "server/api/testing.h"

namespace pretrained::server {
namespace {

class GitTest : public HubTest {
 protected:
  std::string sh(const std::string& script) {
    auto result = run_process({"bash", "-ec", script}, folder.path());
    EXPECT_EQ(result.exit_code, 0) << script << "\n" << result.output;
    std::string output = result.output;
    while (output.ends_with("\n")) output.pop_back();
    return output;
  }
  static std::string packet(const std::string& text) {
    char length[5];
    snprintf(length, sizeof length, "%04zx", text.size() + 4);
    return length + text;
  }
  std::string head(const std::string& ref = "main") {
    return git.resolve(repo.access.id, ref).value_or(kNoOid);
  }
  // Makes a commit on top of main in a repository of git's own; `script` changes the files.
  std::string local_commit(const std::string& script) {
    std::string pack = folder / "fetch.pack";
    sh("rm -rf work && mkdir work && cd work && git init -q -b main . && git config user.name a && "
       "git config user.email a@b");
    auto view = git.open(repo.access.id);
    std::string base = head();
    // The commit that the hub has, object by object: .gitattributes, its tree, itself.
    std::string pack_request =
        packet("want " + base + " no-progress ofs-delta\n") + "0000" + packet("done\n");
    auto answer = ask("POST", "/alice/m/git-upload-pack", pack_request, alice_token);
    EXPECT_EQ(answer.status, 200);
    size_t start = answer.body.find("PACK");
    if (start == std::string::npos) return "";
    std::ofstream(pack, std::ios::binary) << answer.body.substr(start);
    sh("cd work && git unpack-objects -q < ../fetch.pack && git reset -q --hard " + base);
    sh("cd work && " + script + " && git add -A && git commit -q -m change");
    return sh("cd work && git rev-parse HEAD");
  }
  Answer push(const std::string& ref, const std::string& from, const std::string& to,
              const std::string& token, const HeaderList& headers = {}) {
    std::string body =
        packet(from + " " + to + " " + ref + std::string("\0", 1) + " report-status") + "0000";
    if (to != kNoOid) {
      std::string exclude = head();
      sh("cd work && printf '%s\\n^%s\\n' " + to + " " + exclude +
         " | git pack-objects --revs --stdout -q > ../push.pack");
      body += read_file(folder / "push.pack", 64 << 20);
    }
    return ask("POST", "/alice/m.git/git-receive-pack", body, token, headers);
  }
  Repo repo = make_repo("m");
};

TEST_F(GitTest, Advertisements) {
  for (std::string name : {"m", "m.git"}) {
    auto answer = get("/alice/" + name + "/info/refs?service=git-upload-pack", "",
                      {{"Git-Protocol", "version=2"}});
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.header("Content-Type"), "application/x-git-upload-pack-advertisement");
    EXPECT_TRUE(answer.header("Cache-Control").starts_with("no-cache"));
    EXPECT_NE(answer.body.find("version 2"), std::string::npos);
    answer = get("/alice/" + name + "/info/refs?service=git-receive-pack", alice_token);
    EXPECT_EQ(answer.status, 200);
    EXPECT_NE(answer.body.find(head() + " refs/heads/main"), std::string::npos);
  }
  EXPECT_EQ(get("/alice/m/info/refs").status, 403);
  EXPECT_EQ(get("/alice/m/info/refs?service=git-evil").status, 403);
}

TEST_F(GitTest, AbsentAndPrivateLookAlike) {
  make_repo("hidden", true);
  for (std::string name : {"hidden", "absent"})
    for (std::string service : {"git-upload-pack", "git-receive-pack"}) {
      std::string target = "/alice/" + name + ".git/info/refs?service=" + service;
      auto anonymous = get(target);
      EXPECT_EQ(anonymous.status, 401);
      EXPECT_TRUE(anonymous.header("WWW-Authenticate").starts_with("Basic realm="));
      EXPECT_EQ(get(target, bob_token).status, 404);
    }
  EXPECT_EQ(get("/alice/hidden.git/info/refs?service=git-upload-pack", alice_token).status, 200);
  HeaderList basic{{"Authorization", "Basic " + encode_base64("any:" + alice_token)}};
  EXPECT_EQ(get("/alice/hidden/info/refs?service=git-upload-pack", "", basic).status, 200);
  EXPECT_EQ(get("/alice/m/info/refs?service=git-receive-pack").status, 401);
}

TEST_F(GitTest, PushMovesTheBranchLikeACommitDoes) {
  std::string base = head(), tip = local_commit("echo hi > README.md");
  auto answer = push("refs/heads/main", base, tip, alice_token);
  EXPECT_NE(answer.body.find("unpack ok"), std::string::npos) << answer.body;
  EXPECT_NE(answer.body.find("ok refs/heads/main"), std::string::npos) << answer.body;
  EXPECT_EQ(head(), tip);
  EXPECT_EQ(get("/alice/m/resolve/main/README.md").body, "hi\n");
  auto stale = push("refs/heads/main", base, tip, alice_token);
  EXPECT_NE(stale.body.find("ng refs/heads/main"), std::string::npos) << stale.body;
}

TEST_F(GitTest, OnlyWritersPush) {
  std::string base = head(), tip = local_commit("echo hi > README.md");
  EXPECT_EQ(push("refs/heads/main", base, tip, "").status, 401);
  for (const auto& token : {bob_token, alice_read_token}) {
    auto answer = push("refs/heads/main", base, tip, token);
    EXPECT_TRUE(answer.status == 403 || answer.body.find("ng refs/heads/main") != std::string::npos)
        << answer.body;
  }
  EXPECT_EQ(head(), base);
}

TEST_F(GitTest, ReferencesThatCanNotBePushed) {
  std::string base = head(), tip = local_commit("echo hi > README.md");
  for (std::string ref : {"refs/pr/1", "refs/convert/x", "refs/notes/x",
                          "refs/heads/0123456789012345678901234567890123456789"}) {
    auto answer = push(ref, kNoOid, tip, alice_token);
    EXPECT_NE(answer.body.find("ng " + ref), std::string::npos) << answer.body;
  }
  auto gone = push("refs/heads/main", base, kNoOid, alice_token);
  EXPECT_NE(gone.body.find("ng refs/heads/main"), std::string::npos) << gone.body;
  EXPECT_EQ(head(), base);
}

TEST_F(GitTest, PullRequestsArePushedByTheirAuthors) {
  ASSERT_EQ(
      commit("alice/m", header_line("pr") + file_line("f", "1"), "main?create_pr=1", bob_token)
          .status,
      200);
  auto carol = accounts.create_user("carol");
  auto carol_token = accounts.create_token(carol.id, "write", "write").secret;
  std::string tip = local_commit("echo hi > README.md");
  std::string was = head("refs/pr/1");
  auto refused = push("refs/pr/1", was, tip, carol_token);
  EXPECT_EQ(refused.body.find("ok refs/pr/1"), std::string::npos) << refused.body;
  sh("cd work && git pack-objects -q --revs --stdout > ../push.pack <<< " + tip);
  std::string body =
      packet(was + " " + tip + " refs/pr/1" + std::string("\0", 1) + " report-status") + "0000" +
      read_file(folder / "push.pack", 64 << 20);
  auto accepted = ask("POST", "/alice/m/git-receive-pack", body, bob_token);
  EXPECT_NE(accepted.body.find("ok refs/pr/1"), std::string::npos) << accepted.body;
  EXPECT_EQ(head("refs/pr/1"), tip);
}

TEST_F(GitTest, PointersNeedTheirObjects) {
  std::string base = head(), bytes = "weights";
  std::ofstream(folder / "pointer") << LfsPointer{sha256_hex(bytes), bytes.size()}.text();
  std::string tip = local_commit("git config filter.lfs.clean cat && cp ../pointer m.bin");
  auto refused = push("refs/heads/main", base, tip, alice_token);
  EXPECT_NE(refused.body.find("ng refs/heads/main"), std::string::npos) << refused.body;
  EXPECT_NE(refused.body.find("LFS"), std::string::npos) << refused.body;
  EXPECT_EQ(head(), base);
  store(repo, bytes);
  auto accepted = push("refs/heads/main", base, tip, alice_token);
  EXPECT_NE(accepted.body.find("ok refs/heads/main"), std::string::npos) << accepted.body;
  EXPECT_EQ(get("/alice/m/resolve/main/m.bin").body, bytes);
  EXPECT_EQ(text_at(get("/api/models/alice/m/lfs-files").json(), "0.filename"), "m.bin");
}

TEST_F(GitTest, LargeFilesMustBeLfs) {
  std::string base = head();
  std::string tip = local_commit("head -c 11000000 /dev/urandom > big.dat");
  auto refused = push("refs/heads/main", base, tip, alice_token);
  EXPECT_EQ(refused.body.find("ok refs/heads/main"), std::string::npos) << refused.body;
  EXPECT_EQ(head(), base);
}

TEST_F(GitTest, NonsenseIsRefused) {
  std::string base = head();
  for (std::string body : {"", "0000", "zzzz", "ffff", "0004", "00a0abc"}) {
    auto answer = ask("POST", "/alice/m/git-receive-pack", body, alice_token);
    EXPECT_LT(answer.status, 500) << body << answer.body;
    EXPECT_EQ(head(), base);
  }
  auto zipped = ask("POST", "/alice/m/git-receive-pack", "not gzip", alice_token,
                    {{"Content-Encoding", "gzip"}});
  EXPECT_EQ(zipped.status, 400);
}

}  // namespace
}  // namespace pretrained::server
