#include "server/api/testing.h"

namespace pretrained::server {
namespace {

class ResolveTest : public HubTest {
 protected:
  ResolveTest() {
    store(repo, weights);
    head = text_at(commit("alice/m", header_line("a") + file_line("a.txt", "0123456789") +
                                         file_line("page.html", "<script>alert(1)</script>") +
                                         file_line("empty", "") + lfs_line("model.bin", weights))
                       .json(),
                   "commitOid");
  }
  Repo repo = make_repo("m");
  std::string weights = noise(300'000), head;
  std::string xet_hash() {
    return content.object(repo.access.id, sha256_hex(weights))->xet_hash.hex();
  }
};

TEST_F(ResolveTest, RegularFiles) {
  for (std::string method : {"GET", "HEAD"}) {
    auto answer = ask(method, "/alice/m/resolve/main/a.txt");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.header("X-Repo-Commit"), head);
    EXPECT_EQ(answer.header("ETag"), "\"ad471007bd7f5983d273b9584e5629230150fd54\"");
    EXPECT_EQ(answer.header("Accept-Ranges"), "bytes");
    EXPECT_EQ(answer.header("Content-Type"), "text/plain; charset=utf-8");
    EXPECT_EQ(answer.header("Content-Disposition"),
              "inline; filename*=UTF-8''a.txt; filename=\"a.txt\";");
    EXPECT_FALSE(answer.headers.has("X-Linked-Etag"));
    EXPECT_FALSE(answer.headers.has("X-Xet-Hash"));
    EXPECT_EQ(answer.body, "0123456789");
  }
  EXPECT_EQ(get("/alice/m/resolve/main/empty").body, "");
  EXPECT_EQ(get("/alice/m/resolve/" + head + "/a.txt").status, 200);
}

TEST_F(ResolveTest, LargeFilesOfferXet) {
  auto answer = get("/alice/m/resolve/main/model.bin");
  EXPECT_EQ(answer.status, 200);
  EXPECT_TRUE(answer.body == weights);
  EXPECT_EQ(answer.header("ETag"), "\"" + sha256_hex(weights) + "\"");
  EXPECT_EQ(answer.header("X-Linked-Etag"), answer.header("ETag"));
  EXPECT_EQ(answer.header("X-Linked-Size"), "300000");
  EXPECT_EQ(answer.header("X-Xet-Hash"), xet_hash());
  EXPECT_EQ(answer.header("Link"),
            "<http://hub.test/api/models/alice/m/xet-read-token/" + head +
                ">; rel=\"xet-auth\", <http://hub.test/xet/v1/reconstructions/" + xet_hash() +
                ">; rel=\"xet-reconstruction-info\"");
}

TEST_F(ResolveTest, JavaScriptAsksForTheFileInfo) {
  HeaderList headers{{"Accept", "application/vnd.xet-fileinfo+json, */*"}, {"Range", "bytes=0-0"}};
  auto answer = get("/alice/m/resolve/main/model.bin", "", headers);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.header("Content-Type"), "application/vnd.xet-fileinfo+json");
  EXPECT_EQ(answer.header("X-Linked-Size"), "300000");
  EXPECT_EQ(text_at(answer.json(), "hash"), xet_hash());
  EXPECT_EQ(text_at(answer.json(), "reconstructionUrl"),
            "http://hub.test/xet/v1/reconstructions/" + xet_hash());
  answer = get("/alice/m/resolve/main/a.txt", "", headers);
  EXPECT_EQ(answer.status, 206);
  EXPECT_EQ(answer.header("Content-Range"), "bytes 0-0/10");
}

TEST_F(ResolveTest, Ranges) {
  struct Case {
    std::string range;
    int status;
    std::string body, content_range;
  };
  for (const auto& c : std::vector<Case>{{"bytes=2-4", 206, "234", "bytes 2-4/10"},
                                         {"bytes=7-", 206, "789", "bytes 7-9/10"},
                                         {"bytes=-3", 206, "789", "bytes 7-9/10"},
                                         {"bytes=0-99", 206, "0123456789", "bytes 0-9/10"},
                                         {"bytes=10-", 416, "", "bytes */10"},
                                         {"bytes=4-2", 200, "0123456789", ""},
                                         {"bytes=0-1,3-4", 200, "0123456789", ""},
                                         {"lines=1-2", 200, "0123456789", ""},
                                         {"bytes=99999999999999999999-", 416, "", "bytes */10"},
                                         {"bytes=-0", 416, "", "bytes */10"}}) {
    auto answer = get("/alice/m/resolve/main/a.txt", "", {{"Range", c.range}});
    EXPECT_EQ(answer.status, c.status) << c.range;
    EXPECT_EQ(answer.header("Content-Range"), c.content_range) << c.range;
    if (c.status != 416) EXPECT_EQ(answer.body, c.body) << c.range;
  }
  auto large = get("/alice/m/resolve/main/model.bin", "", {{"Range", "bytes=1000-200000"}});
  EXPECT_EQ(large.status, 206);
  EXPECT_TRUE(large.body == weights.substr(1000, 199001));
  EXPECT_EQ(get("/alice/m/resolve/main/empty", "", {{"Range", "bytes=0-0"}}).status, 416);
  // A resume of another version starts anew.
  auto changed =
      get("/alice/m/resolve/main/a.txt", "", {{"Range", "bytes=2-"}, {"If-Range", "\"x\""}});
  EXPECT_EQ(changed.status, 200);
}

TEST_F(ResolveTest, NotModified) {
  std::string etag = get("/alice/m/resolve/main/model.bin").header("ETag");
  for (std::string condition : {etag, "W/" + etag, "\"x\", " + etag, std::string("*")}) {
    auto answer = get("/alice/m/resolve/main/model.bin", "", {{"If-None-Match", condition}});
    EXPECT_EQ(answer.status, 304);
    EXPECT_EQ(answer.body, "");
    EXPECT_EQ(answer.header("ETag"), etag);
  }
  EXPECT_EQ(get("/alice/m/resolve/main/model.bin", "", {{"If-None-Match", "\"x\""}}).status, 200);
}

TEST_F(ResolveTest, MissingFilesAndRevisions) {
  auto answer = ask("HEAD", "/alice/m/resolve/main/missing.json");
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.header("X-Error-Code"), "EntryNotFound");
  EXPECT_EQ(answer.header("X-Repo-Commit"), head);
  answer = ask("HEAD", "/alice/m/resolve/nope/a.txt");
  EXPECT_EQ(answer.header("X-Error-Code"), "RevisionNotFound");
  EXPECT_FALSE(answer.headers.has("X-Repo-Commit"));
  EXPECT_EQ(get("/alice/m/resolve/main").status, 404);
  EXPECT_EQ(get("/datasets/alice/m/resolve/main/a.txt").header("X-Error-Code"), "RepoNotFound");
}

TEST_F(ResolveTest, PrivateAndGatedFiles) {
  Repo hidden = make_repo("hidden", true);
  EXPECT_EQ(get("/alice/hidden/resolve/main/.gitattributes").header("X-Error-Code"),
            "RepoNotFound");
  EXPECT_EQ(get("/alice/hidden/resolve/main/.gitattributes", bob_token).status, 404);
  EXPECT_EQ(get("/alice/hidden/resolve/main/.gitattributes", alice_token).status, 200);
  repos.set_gated(repo, "manual");
  auto answer = get("/alice/m/resolve/main/a.txt", bob_token);
  EXPECT_EQ(answer.status, 403);
  EXPECT_EQ(answer.header("X-Error-Code"), "GatedRepo");
  EXPECT_EQ(get("/api/models/alice/m", bob_token).status, 200);
  EXPECT_EQ(get("/alice/m/resolve/main/a.txt", alice_token).status, 200);
}

TEST_F(ResolveTest, PagesOfARepositoryRunNothing) {
  auto answer = get("/alice/m/resolve/main/page.html");
  EXPECT_EQ(answer.header("Content-Type"), "text/plain; charset=utf-8");
  EXPECT_EQ(answer.header("X-Content-Type-Options"), "nosniff");
  EXPECT_NE(answer.header("Content-Security-Policy").find("sandbox"), std::string::npos);
}

TEST_F(ResolveTest, RawIsWhatGitHas) {
  auto answer = get("/alice/m/raw/main/model.bin");
  EXPECT_TRUE(answer.body.starts_with("version https://git-lfs.github.com/spec/v1\n"));
  EXPECT_EQ(ask("HEAD", "/alice/m/raw/main/a.txt").status, 200);
  EXPECT_EQ(get("/alice/m/raw/main/nope").header("X-Error-Code"), "EntryNotFound");
}

TEST_F(ResolveTest, NamesOfFilesCanNotBreakHeaders) {
  ASSERT_EQ(
      commit("alice/m", header_line("a") + file_line("gr\xc3\xbc\xc3\x9f \"q\".txt", "x")).status,
      200);
  auto answer = get("/alice/m/resolve/main/gr%C3%BC%C3%9F%20%22q%22.txt");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.header("Content-Disposition"),
            "inline; filename*=UTF-8''gr%C3%BC%C3%9F%20%22q%22.txt; filename=\"gr____ _q_.txt\";");
}

TEST_F(ResolveTest, DownloadsAreCounted) {
  get("/alice/m/resolve/main/a.txt");
  ask("HEAD", "/alice/m/resolve/main/a.txt", "", "", {{"X-HF-Download-Counter", "1"}});
  get("/alice/m/resolve/main/a.txt", "", {{"X-HF-Download-Counter", "1"}});
  get("/alice/m/resolve/main/a.txt", "", {{"X-HF-Download-Counter", "1"}, {"Range", "bytes=4-"}});
  // Written a second later, or at the end.
  for (int i = 0; i < 30 && repos.find(repo.access.id)->downloads == 0; ++i) {
    usleep(100'000);
    repos.count_download(make_repo("other" + std::to_string(i)));
  }
  EXPECT_EQ(repos.find(repo.access.id)->downloads, 1);
}

}  // namespace
}  // namespace pretrained::server
