// Where something runs out, or two do something at once.

#include <thread>

#include "server/api/testing.h"

namespace pretrained::server {
namespace {

class LimitsTest : public HubTest {
 protected:
  const HeaderList lfs = {{"Content-Type", "application/vnd.git-lfs+json"},
                          {"Accept", "application/vnd.git-lfs+json"}};
  Repo repo = make_repo("m");
  std::string bytes = noise(5000);
};

TEST_F(LimitsTest, BatchesAreBounded) {
  auto batch = [&](size_t objects) {
    std::string body = R"({"operation":"download","objects":[)";
    for (size_t i = 0; i < objects; ++i)
      body += (i ? "," : "") + (R"({"size":1,"oid":")" + sha256_hex(std::to_string(i)) + "\"}");
    return post("/alice/m.git/info/lfs/objects/batch", body + "]}", alice_token, lfs);
  };
  auto most = batch(1000);
  EXPECT_EQ(most.status, 200);
  EXPECT_EQ(at(most.json(), "objects").get_if<Json::Array>()->size(), 1000u);
  auto more = batch(1001);
  EXPECT_EQ(more.status, 413);
  EXPECT_NE(text_at(more.json(), "message").find("at most 1000"), std::string::npos) << more.body;

  std::string paths;
  for (int i = 0; i < 1001; ++i)
    paths += (i ? "," : "") + (R"({"path":"f)" + std::to_string(i) + R"(","size":1,"sample":""})");
  auto files =
      post("/api/models/alice/m/preupload/main", "{\"files\":[" + paths + "]}", alice_token);
  EXPECT_EQ(files.status, 413) << files.body;
}

// Whatever a commit on main names can be read, however commits and deletions meet.
TEST_F(LimitsTest, NothingIsDeletedThatACommitNamesMeanwhile) {
  std::string body = R"({"deletions":{"sha":[")" + sha256_hex(bytes) + "\"]}}";
  for (int round = 0; round < 15; ++round) {
    store(repo, bytes);
    int committed = 0, deleted = 0;
    std::thread writer(
        [&] { committed = commit("alice/m", header_line("a") + lfs_line("m.bin", bytes)).status; });
    std::thread cleaner(
        [&] { deleted = post("/api/models/alice/m/lfs-files/batch", body, alice_token).status; });
    writer.join();
    cleaner.join();
    EXPECT_TRUE(deleted == 200 || deleted == 409) << deleted;
    EXPECT_TRUE(committed == 200 || (committed >= 400 && committed < 500)) << committed;
    if (committed == 200) EXPECT_TRUE(get("/alice/m/resolve/main/m.bin").body == bytes) << round;
    commit("alice/m", header_line("b") + line("deletedFile", {{"path", "m.bin"}}));
    post("/api/models/alice/m/super-squash/main", "{}", alice_token);
  }
}

// The same hub when its disk has less room than it keeps free.
class FullDiskTest : public LimitsTest {
 protected:
  BlobStore full_blobs{folder.path(), uint64_t{1} << 60};
  GitStore full_git{database, full_blobs, folder / "cache"};
  ContentStore full_content{database, full_blobs};
  Repos full_repos{database, accounts, full_git, full_content};
  App full{Services{database, full_blobs, accounts, full_git, full_content, full_repos, quiet(),
                    std::string(32, 'k')}};
};

TEST_F(FullDiskTest, WritesAreRefusedAndReadsGoOn) {
  store(repo, bytes);
  const std::string model = "/api/models/alice/m";
  ASSERT_EQ(
      commit("alice/m", header_line("a") + lfs_line("m.bin", bytes) + file_line("t", "t")).status,
      200);
  post(model + "/discussions", R"({"title":"t","description":"d"})", bob_token);
  std::string other = noise(5000, 2);
  auto upload =
      post("/alice/m.git/info/lfs/objects/batch",
           R"({"operation":"upload","objects":[{"size":5000,"oid":")" + sha256_hex(other) + "\"}]}",
           alice_token, lfs);
  std::string put = local(text_at(upload.json(), "objects.0.actions.upload.href"));
  std::string head = text_at(get(model).json(), "sha");
  const HeaderList lines = {{"Content-Type", "application/x-ndjson"}};
  const HeaderList json = {{"Content-Type", "application/json"}};
  struct Row {
    std::string method, target, body;
    HeaderList headers;
  };
  for (const auto& row : std::vector<Row>{
           {"POST", "/api/repos/create", R"({"name":"n"})", json},
           {"POST", model + "/commit/main", header_line("b") + file_line("u", "u"), lines},
           {"POST", model + "/duplicate", R"({"repository":"alice/copy"})", json},
           {"POST", model + "/super-squash/main", "{}", json},
           {"POST", model + "/discussions", R"({"title":"t","description":"d"})", json},
           {"POST", model + "/discussions/1/comment", R"({"comment":"c"})", json},
           {"POST", "/oauth/device", R"({"client_id":"c"})", json},
           {"PUT", put, other, {}}}) {
    auto answer = ask_of(full, row.method, row.target, row.body, alice_token, row.headers);
    EXPECT_EQ(answer.status, 507) << row.method << " " << row.target << " " << answer.body;
  }
  EXPECT_FALSE(repos.find("model", "alice", "n")) << "nothing half made";
  EXPECT_FALSE(repos.find("model", "alice", "copy"));
  for (const std::string& target :
       {model, model + "/tree/main", model + "/commits/main", model + "/discussions",
        std::string("/alice/m/resolve/main/m.bin"), std::string("/alice/m/resolve/main/t"),
        std::string("/alice/m/info/refs?service=git-upload-pack"), model + "/xet-read-token/main"})
    EXPECT_EQ(ask_of(full, "GET", target, "", alice_token).status, 200) << target;
  EXPECT_EQ(text_at(get(model).json(), "sha"), head);
}

}  // namespace
}  // namespace pretrained::server
