#include "server/api/testing.h"

namespace pretrained::server {
namespace {

class LfsTest : public HubTest {
 protected:
  LfsTest() : HubTest(options()) {}
  static AppOptions options() {
    AppOptions options = quiet();
    options.lfs_part_bytes = 100'000;
    return options;
  }
  Answer batch(const std::string& operation, const std::string& bytes,
               const std::vector<std::string>& transfers, const std::string& token = "-",
               const std::string& ref = "main", const std::string& repo = "alice/m") {
    Json::Array offered;
    for (const auto& name : transfers) offered.push_back(name);
    Json::Object body{{"operation", operation},
                      {"transfers", offered},
                      {"objects", Json::Array{Json::Object{{"oid", sha256_hex(bytes)},
                                                           {"size", int64_t(bytes.size())}}}}};
    if (!ref.empty()) body["ref"] = Json::Object{{"name", ref}};
    return post("/" + repo + ".git/info/lfs/objects/batch", Json(body).dump(0),
                token == "-" ? alice_token : token,
                {{"Content-Type", "application/vnd.git-lfs+json"}});
  }
  Repo repo = make_repo("m");
  std::string small = noise(5000), large = noise(250'000);
};

TEST_F(LfsTest, BasicUploadVerifyAndDownload) {
  auto answer = batch("upload", small, {"basic", "multipart"});
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.header("Content-Type"), "application/vnd.git-lfs+json");
  auto json = answer.json();
  EXPECT_EQ(text_at(json, "transfer"), "basic");
  EXPECT_EQ(text_at(json, "objects.0.oid"), sha256_hex(small));
  std::string href = local(text_at(json, "objects.0.actions.upload.href"));
  std::string verify = local(text_at(json, "objects.0.actions.verify.href"));
  std::string body = R"({"oid":")" + sha256_hex(small) + R"(","size":5000})";
  EXPECT_EQ(post(verify, body).status, 404);
  EXPECT_EQ(ask("PUT", href, "other bytes").status, 400);
  EXPECT_EQ(ask("PUT", href, noise(5000, 2)).status, 400);
  auto put = ask("PUT", href, small);  // without a token: the address is enough
  EXPECT_EQ(put.status, 200) << put.body;
  EXPECT_FALSE(put.header("ETag").empty());
  EXPECT_EQ(post(verify, body).status, 200);
  EXPECT_EQ(post(verify, R"({"oid":")" + sha256_hex(small) + R"(","size":1})").status, 422);

  json = batch("upload", small, {"basic"}).json();
  EXPECT_TRUE(at(json, "objects.0.actions").is_null());  // it is there
  json = batch("download", small, {"basic"}, "").json();
  auto download = get(local(text_at(json, "objects.0.actions.download.href")));
  EXPECT_TRUE(download.body == small);
  json = batch("download", large, {"basic"}, "").json();
  EXPECT_EQ(at(json, "objects.0.error.code"), Json(404));
}

TEST_F(LfsTest, Multipart) {
  auto json = batch("upload", large, {"basic", "multipart"}).json();
  EXPECT_EQ(text_at(json, "transfer"), "multipart");
  EXPECT_EQ(text_at(json, "objects.0.actions.upload.header.chunk_size"), "100000");
  Json::Array parts;
  for (int i = 3; i >= 1; --i) {
    std::string url = text_at(json, "objects.0.actions.upload.header.0000" + std::to_string(i));
    auto put = ask("PUT", local(url), large.substr(size_t(i - 1) * 100'000, 100'000));
    EXPECT_EQ(put.status, 200) << put.body;
    parts.push_back(Json::Object{{"partNumber", i}, {"etag", put.header("ETag")}});
  }
  EXPECT_TRUE(at(json, "objects.0.actions.upload.header.00004").is_null());
  auto complete = post(local(text_at(json, "objects.0.actions.upload.href")),
                       Json(Json::Object{{"oid", sha256_hex(large)}, {"parts", parts}}).dump(0));
  EXPECT_EQ(complete.status, 200) << complete.body;
  EXPECT_TRUE(content.object(repo.access.id, sha256_hex(large)));
}

TEST_F(LfsTest, MultipartWithMissingOrWrongParts) {
  auto json = batch("upload", large, {"basic", "multipart"}).json();
  std::string href = local(text_at(json, "objects.0.actions.upload.href"));
  EXPECT_EQ(post(href, "{}").status, 400);
  json = batch("upload", large, {"basic", "multipart"}).json();
  std::string part = local(text_at(json, "objects.0.actions.upload.header.00001"));
  EXPECT_EQ(ask("PUT", part, noise(100'001)).status, 400);
  EXPECT_EQ(ask("PUT", part, noise(99'999)).status, 400);
  EXPECT_FALSE(content.object(repo.access.id, sha256_hex(large)));
}

TEST_F(LfsTest, XetIsChosenWhereItIsOffered) {
  auto json = batch("upload", large, {"basic", "multipart", "xet"}).json();
  EXPECT_EQ(text_at(json, "transfer"), "xet");
  EXPECT_EQ(text_at(json, "objects.0.actions.upload.href"),
            "http://hub.test/api/models/alice/m/xet-write-token/main");
  auto header = at(json, "objects.0.actions.upload.header");
  EXPECT_EQ(text_at(header, "X-Xet-Cas-Url"), "http://hub.test/xet");
  EXPECT_TRUE(text_at(header, "X-Xet-Access-Token").starts_with("xet_"));
  EXPECT_EQ(text_at(header, "X-Xet-Token-Expiration").size(), 10u);
  EXPECT_FALSE(text_at(header, "X-Xet-Session-Id").empty());
  store(repo, large);
  json = batch("upload", large, {"xet"}).json();
  EXPECT_TRUE(at(json, "objects.0.actions").is_null());
}

TEST_F(LfsTest, AddressesAreGoodForOneThingAndAWhile) {
  std::string href =
      local(text_at(batch("upload", small, {"basic"}).json(), "objects.0.actions.upload.href"));
  EXPECT_EQ(get(href).status, 403);  // to write is not to read
  size_t oid = href.find(sha256_hex(small));
  std::string other = href;
  other.replace(oid, 64, sha256_hex(large));
  EXPECT_EQ(ask("PUT", other, large).status, 403);
  std::string expired = href;
  size_t time = expired.find("expires=") + 8;
  expired.replace(time, 10, "1000000000");
  EXPECT_EQ(ask("PUT", expired, small).status, 403);
  expired.replace(time, 10, "9999999999");
  EXPECT_EQ(ask("PUT", expired, small).status, 403);
  EXPECT_EQ(ask("PUT", href.substr(0, href.find('?')), small).status, 403);
  EXPECT_EQ(ask("PUT", href.substr(0, href.size() - 1), small).status, 403);
  repos.remove(repo);
  EXPECT_EQ(ask("PUT", href, small).status, 404);
}

TEST_F(LfsTest, AddressesEndWithTheRightsOfWhomTheyWereGivenTo) {
  std::string put =
      local(text_at(batch("upload", small, {"basic"}).json(), "objects.0.actions.upload.href"));
  accounts.revoke(alice_caller.token->id);
  EXPECT_EQ(ask("PUT", put, small).status, 401);
  store(repo, small);
  std::string bobs = local(text_at(batch("download", small, {"basic"}, bob_token).json(),
                                   "objects.0.actions.download.href"));
  EXPECT_EQ(get(bobs).body, small);
  repos.set_visibility(repo, true);
  EXPECT_EQ(get(bobs).status, 403);
  repos.set_visibility(repo, false);
  accounts.set_disabled(bob.id, true);
  EXPECT_EQ(get(bobs).status, 401);
}

TEST_F(LfsTest, AddressesOfADeletedRepositoryAreNotGoodForTheNext) {
  Repo last = make_repo("last");
  std::string put = local(
      text_at(post("/alice/last/info/lfs/objects/batch",
                   R"({"operation": "upload", "transfers": ["basic"], "objects": [{"oid": ")" +
                       sha256_hex(small) + R"(", "size": )" + std::to_string(small.size()) + "}]}",
                   alice_token)
                  .json(),
              "objects.0.actions.upload.href"));
  repos.remove(last);
  Repo next = repos.create(alice_caller, "model", bob, "next", true);
  EXPECT_NE(next.access.id, last.access.id);
  EXPECT_EQ(ask("PUT", put, small).status, 404);
  EXPECT_FALSE(content.object(next.access.id, sha256_hex(small)));
}

TEST_F(LfsTest, WhoMayDoWhat) {
  EXPECT_EQ(batch("upload", small, {"basic"}, bob_token).status, 403);
  EXPECT_EQ(batch("upload", small, {"basic"}, alice_read_token).status, 403);
  EXPECT_EQ(batch("upload", small, {"basic"}, bob_token, "").status, 200);  // for a pull request
  EXPECT_EQ(batch("upload", small, {"basic"}, alice_read_token, "").status, 403);
  auto anonymous = batch("upload", small, {"basic"}, "");
  EXPECT_EQ(anonymous.status, 401);
  EXPECT_TRUE(anonymous.header("LFS-Authenticate").starts_with("Basic"));
  make_repo("hidden", true);
  for (std::string name : {"alice/hidden", "alice/absent"}) {
    EXPECT_EQ(batch("download", small, {"basic"}, "", "main", name).status, 401) << name;
    EXPECT_EQ(batch("download", small, {"basic"}, bob_token, "main", name).status, 404) << name;
  }
  // Knowing a hash is not having the object.
  store(*repos.find("model", "alice", "hidden"), small);
  EXPECT_EQ(at(batch("download", small, {"basic"}, bob_token).json(), "objects.0.error.code"),
            Json(404));
  EXPECT_FALSE(at(batch("upload", small, {"basic"}).json(), "objects.0.actions").is_null());
}

TEST_F(LfsTest, HostileBatches) {
  std::string target = "/alice/m.git/info/lfs/objects/batch";
  for (const char* body :
       {"{}", "[", R"({"operation":"delete","objects":[]})", R"({"operation":"upload"})",
        R"({"operation":"upload","objects":[{"oid":"../../x","size":1}]})",
        R"({"operation":"upload","objects":[{"oid":1,"size":1}]})",
        R"({"operation":"upload","ref":"x","objects":[]})"}) {
    int status = post(target, body, alice_token).status;
    EXPECT_TRUE(status == 400 || status == 422) << body << status;
  }
}

TEST_F(LfsTest, Locks) {
  auto answer = post("/alice/m.git/info/lfs/locks/verify", R"({"ref":{"name":"refs/heads/main"}})",
                     alice_token);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, R"({"ours": [], "theirs": []})");
  EXPECT_EQ(post("/alice/m.git/info/lfs/locks/verify", "{}").status, 401);
  EXPECT_EQ(get("/alice/m.git/info/lfs/locks").status, 200);
  EXPECT_EQ(post("/alice/m.git/info/lfs/locks", R"({"path":"a"})", alice_token).status, 201);
}

TEST_F(LfsTest, ListAndDeleteFiles) {
  store(repo, small);
  ASSERT_EQ(commit("alice/m", header_line("a") + lfs_line("d/m.bin", small)).status, 200);
  auto list = get("/api/models/alice/m/lfs-files").json();
  EXPECT_EQ(text_at(list, "0.fileOid"), sha256_hex(small));
  EXPECT_EQ(text_at(list, "0.filename"), "d/m.bin");
  EXPECT_EQ(at(list, "0.size"), Json(5000));
  EXPECT_EQ(text_at(list, "0.pushedAt").size(), 24u);
  std::string body =
      R"({"deletions":{"sha":[")" + sha256_hex(small) + R"("],"rewriteHistory":true}})";
  std::string target = "/api/models/alice/m/lfs-files/batch";
  EXPECT_EQ(post(target, body, bob_token).status, 403);
  EXPECT_EQ(post(target, body, alice_token).status, 409);  // history has it
  EXPECT_TRUE(get("/alice/m/resolve/main/d/m.bin").body == small);
  commit("alice/m", header_line("b") + line("deletedFile", {{"path", "d/m.bin"}}));
  EXPECT_EQ(post(target, body, alice_token).status, 409);
  post("/api/models/alice/m/super-squash/main", "{}", alice_token);
  EXPECT_EQ(post(target, body, alice_token).status, 200);
  EXPECT_EQ(get("/api/models/alice/m/lfs-files").body, "[]");
  EXPECT_EQ(post(target, R"({"deletions":{"sha":["x"]}})", alice_token).status, 400);
}

TEST_F(LfsTest, DuplicateNeedsTheRightToRead) {
  Repo hidden = make_repo("hidden", true);
  store(hidden, small);
  repos.create(*accounts.authenticate(bob_token), "model", bob, "own", false);
  std::string body = R"({"target":{"type":"model","name":"bob/own"},"files":[{"sha256":")" +
                     sha256_hex(small) + R"(","xetHash":"x","filename":"f"}]})";
  EXPECT_EQ(post("/api/models/alice/hidden/lfs-files/duplicate", body, bob_token).status, 404);
  auto failed = post("/api/models/alice/m/lfs-files/duplicate", body, bob_token);
  EXPECT_EQ(text_at(failed.json(), "failed.0.sha256"), sha256_hex(small));
  store(repo, small);
  auto done = post("/api/models/alice/m/lfs-files/duplicate", body, bob_token);
  EXPECT_EQ(done.json().find("failed")->dump(0), "[]") << done.body;
  EXPECT_TRUE(content.object(repos.find("model", "bob", "own")->access.id, sha256_hex(small)));
  EXPECT_EQ(post("/api/models/alice/m/lfs-files/duplicate", body).status, 401);
}

}  // namespace
}  // namespace pretrained::server
