#include "server/api/xet.h"

#include "pretrained/xet/xorb.h"
#include "server/api/testing.h"
#include "server/cas/cas_fixture.h"

namespace pretrained::server {
namespace {

using testing::XetFile;

class XetTest : public HubTest {
 protected:
  std::string token(const std::string& kind = "write", const std::string& repo = "alice/m",
                    const std::string& user = "-", const std::string& revision = "main") {
    auto answer = get("/api/models/" + repo + "/xet-" + kind + "-token/" + revision,
                      user == "-" ? alice_token : user);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return text_at(answer.json(), "accessToken");
  }
  // As hf_xet uploads: xorbs, then the shard that makes files of them.
  void upload(const XetFile& file, const std::string& xet_token,
              const std::string& version = "v2") {
    for (const auto& [hash, bytes] : file.xorbs) {
      auto answer = post("/xet/v1/xorbs/default/" + hash.hex(), bytes, xet_token);
      ASSERT_EQ(answer.status, 200) << answer.body;
      EXPECT_EQ(answer.body, R"({"was_inserted": true})");
    }
    auto answer = post("/xet/" + version + "/shards", file.shard(), xet_token);
    ASSERT_EQ(answer.status, 200) << answer.body;
    if (version == "v1") EXPECT_EQ(answer.body, R"({"result": 1})");
    if (version == "v2")
      EXPECT_TRUE(answer.body.ends_with("{\"result\": 1, \"type\": \"result\"}\n"));
  }
  // As clients put a file together from a v2 reconstruction.
  std::string download(const Json& plan, const std::string& version = "v2") {
    std::string all;
    Json terms = at(plan, "terms");
    for (const auto& term : *terms.get_if<Json::Array>()) {
      int64_t start = *at(term, "range.start").get_if<int64_t>();
      int64_t end = *at(term, "range.end").get_if<int64_t>();
      std::string xorbs = version == "v2" ? "xorbs." : "fetch_info.";
      Json fetches = at(plan, xorbs + text_at(term, "hash"));
      for (const auto& fetch : *fetches.get_if<Json::Array>()) {
        Json chunks = at(fetch, version == "v2" ? "ranges.0.chunks" : "range");
        Json bytes = at(fetch, version == "v2" ? "ranges.0.bytes" : "url_range");
        int64_t first = *at(chunks, "start").get_if<int64_t>();
        if (start < first || end > *at(chunks, "end").get_if<int64_t>()) continue;
        auto answer = get(
            local(text_at(fetch, "url")), "",
            {{"Range", "bytes=" + at(bytes, "start").dump(0) + "-" + at(bytes, "end").dump(0)}});
        EXPECT_EQ(answer.status, 206);
        auto table = xet::parse_xorb(answer.body);
        for (int64_t i = start; i < end; ++i)
          all += xet::decode_chunk(answer.body, table.chunks.at(size_t(i - first)));
        break;
      }
    }
    return all.substr(size_t(*at(plan, "offset_into_first_range").get_if<int64_t>()));
  }
  Repo repo = make_repo("m");
  std::string bytes = noise(1'500'000);
};

TEST_F(XetTest, TokenInJsonAndHeaders) {
  auto answer = get("/api/models/alice/m/xet-write-token/main", alice_token);
  auto json = answer.json();
  EXPECT_EQ(text_at(json, "casUrl"), "http://hub.test/xet");
  EXPECT_EQ(answer.header("X-Xet-Cas-Url"), "http://hub.test/xet");
  EXPECT_EQ(answer.header("X-Xet-Access-Token"), text_at(json, "accessToken"));
  EXPECT_EQ(answer.header("X-Xet-Token-Expiration"), at(json, "exp").dump(0));
  EXPECT_EQ(answer.header("Cache-Control"), "no-store");
  EXPECT_GT(*at(json, "exp").get_if<int64_t>(), now_ms() / 1000 + 3000);
  EXPECT_EQ(get("/api/models/alice/m/xet-write-token/None?create_pr=1", bob_token).status, 200);
  EXPECT_EQ(get("/api/models/alice/m/xet-write-token/main?create_pr=1", bob_token).status, 200);
  EXPECT_EQ(get("/api/models/alice/m/xet-write-token/main", bob_token).status, 403);
  EXPECT_EQ(get("/api/models/alice/m/xet-write-token/main", alice_read_token).status, 403);
  EXPECT_EQ(get("/api/models/alice/m/xet-write-token/main").status, 401);
  EXPECT_EQ(get("/api/models/alice/m/xet-write-token/nope", alice_token).status, 404);
  EXPECT_EQ(get("/api/models/alice/m/xet-read-token/main").status, 200);
}

TEST_F(XetTest, UploadCommitAndDownload) {
  XetFile file(bytes);
  upload(file, token());
  ASSERT_EQ(commit("alice/m", header_line("a") + lfs_line("m.bin", bytes)).status, 200);
  EXPECT_EQ(get("/alice/m/resolve/main/m.bin").header("X-Xet-Hash"), file.file.hash.hex());
  std::string read = token("read", "alice/m", "");
  for (std::string version : {"v1", "v2"}) {
    std::string target = "/xet/" + version + "/reconstructions/" + file.file.hash.hex();
    EXPECT_TRUE(download(get(target, read).json(), version) == bytes);
    auto part = get(target, read, {{"Range", "bytes=700000-800000"}});
    EXPECT_TRUE(download(part.json(), version).substr(0, 100'001) ==
                bytes.substr(700'000, 100'001));
    EXPECT_EQ(get(target, read, {{"Range", "bytes=1500000-"}}).status, 416);
  }
  auto all = post("/xet/v1/reconstructions",
                  R"([{"prefix":"default","hash":")" + file.file.hash.hex() + R"("}])", read);
  EXPECT_FALSE(at(all.json(), "files." + file.file.hash.hex()).is_null());
  EXPECT_FALSE(at(all.json(), "fetch_info." + file.xorbs[0].first.hex()).is_null());
  auto head = ask("HEAD", "/xet/v1/files/" + file.file.hash.hex(), "", read);
  EXPECT_EQ(head.header("Content-Length"), "1500000");
  head = ask("HEAD", "/xet/v1/xorbs/default/" + file.xorbs[0].first.hex(), "", read);
  EXPECT_EQ(head.header("Content-Length"), std::to_string(file.xorbs[0].second.size()));
  auto empty = get("/xet/v2/reconstructions/" + std::string(64, '0'), read).json();
  EXPECT_EQ(at(empty, "terms").dump(0), "[]");
}

TEST_F(XetTest, ShardsV1AndProgress) {
  upload(XetFile(bytes), token(), "v1");
  auto again = post("/xet/v2/shards", XetFile(bytes).shard(), token());
  EXPECT_TRUE(again.body.starts_with(R"({"total": 1, "type": "validating", "verified": 0})"));
  EXPECT_TRUE(again.body.ends_with("{\"result\": 0, \"type\": \"result\"}\n")) << again.body;
}

TEST_F(XetTest, LiesAreRefused) {
  std::string write = token();
  XetFile file(bytes), other(noise(100'000, 7));
  std::string target = "/xet/v1/xorbs/default/";
  EXPECT_EQ(post(target + other.xorbs[0].first.hex(), file.xorbs[0].second, write).status, 400);
  EXPECT_EQ(post(target + "xyz", "a", write).status, 400);
  EXPECT_EQ(post("/xet/v1/shards", file.shard(), write).status, 400);  // its xorb is unknown
  auto stream = post("/xet/v2/shards", file.shard(), write);
  EXPECT_EQ(stream.status, 200);
  EXPECT_NE(stream.body.find(R"("retryable": false, "type": "error")"), std::string::npos);
  EXPECT_EQ(post("/xet/v1/shards", "nonsense", write).status, 400);
  EXPECT_FALSE(content.object(repo.access.id, sha256_hex(bytes)));
}

TEST_F(XetTest, TokensAreForOneScopeOneRepositoryAndAWhile) {
  std::string write = token(), read = token("read");
  XetFile file(bytes);
  upload(file, write);
  std::string target = "/xet/v2/reconstructions/" + file.file.hash.hex();
  EXPECT_EQ(get(target, write).status, 200);
  EXPECT_EQ(post("/xet/v1/shards", file.shard(), read).status, 403);
  EXPECT_EQ(post("/xet/v1/xorbs/default/" + file.xorbs[0].first.hex(), "", read).status, 403);
  make_repo("other");
  EXPECT_EQ(get(target, token("read", "alice/other")).status, 404);
  EXPECT_EQ(ask("HEAD", "/xet/v1/xorbs/default/" + file.xorbs[0].first.hex(), "",
                token("read", "alice/other"))
                .status,
            404);
  std::string forged = read;
  forged.replace(4, 1, "w");
  EXPECT_EQ(get(target, forged).status, 401);
  for (std::string bad : {"", "xet_", "xet_r.1.1.1.1.x", "hf_x", "xet_r.-1.1.1.9999999999.x",
                          "xet_r.99999999999999999999.1.1.1.x"})
    EXPECT_EQ(get(target, bad).status, 401) << bad;
  EXPECT_EQ(get(target, alice_token).status, 401);
}

TEST_F(XetTest, RevokingATokenEndsWhatCameFromIt) {
  std::string read = token("read");
  std::string target = "/xet/v2/reconstructions/" + std::string(64, '0');
  EXPECT_EQ(get(target, read).status, 200);
  accounts.revoke(alice_caller.token->id);
  EXPECT_EQ(get(target, read).status, 401);
  std::string bobs = token("read", "alice/m", bob_token);
  EXPECT_EQ(get(target, bobs).status, 200);
  repos.set_visibility(repo, true);
  EXPECT_EQ(get(target, bobs).status, 403);
}

TEST_F(XetTest, FetchAddressesAreGoodForTheirBytesAlone) {
  XetFile file(bytes);
  upload(file, token());
  std::string target = "/xet/v2/reconstructions/" + file.file.hash.hex();
  auto plan = get(target, token(), {{"Range", "bytes=700000-800000"}}).json();
  Json fetch = at(plan, "xorbs." + file.xorbs[0].first.hex() + ".0");
  std::string url = local(text_at(fetch, "url"));
  int64_t first = *at(fetch, "ranges.0.bytes.start").get_if<int64_t>();
  int64_t last = *at(fetch, "ranges.0.bytes.end").get_if<int64_t>();
  auto range = [&](int64_t a, int64_t b) {
    return get(url, "", {{"Range", "bytes=" + std::to_string(a) + "-" + std::to_string(b)}}).status;
  };
  EXPECT_EQ(range(first, last), 206);
  EXPECT_EQ(range(first + 5, last - 5), 206);
  EXPECT_EQ(range(first - 1, last), 403);
  EXPECT_EQ(range(first, last + 1), 403);
  EXPECT_EQ(get(url, "", {{"Range", "bytes=0-"}}).status, 403);
  EXPECT_EQ(get(url, "", {{"Range", "bytes=-5"}}).status, 403);
  EXPECT_EQ(get(url).body.size(), size_t(last - first + 1));  // without Range: what it is good for
  EXPECT_EQ(get(url.substr(0, url.find('?'))).status, 403);
  std::string wider = url;
  wider.replace(wider.find("/" + std::to_string(first) + "/"), std::to_string(first).size() + 2,
                "/0/");
  EXPECT_EQ(get(wider).status, 403);
}

TEST_F(XetTest, GlobalDeduplicationTellsReadersOnly) {
  Repo hidden = make_repo("hidden", true);
  XetFile file(bytes);
  upload(file, token("write", "alice/hidden"));
  commit("alice/hidden", header_line("a") + lfs_line("m.bin", bytes));
  std::string query = "/xet/v1/chunks/default-merkledb/" + file.chunks[0].hash.hex();
  repos.create(*accounts.authenticate(bob_token), "model", bob, "own", false);
  EXPECT_EQ(get(query, token("write", "bob/own", bob_token)).status, 404);
  auto answer = get(query, token("write", "alice/m"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.header("Content-Type"), "application/octet-stream");
  EXPECT_EQ(get("/xet/v1/chunks/default/" + std::string(64, 'f'), token()).status, 404);
}

TEST_F(XetTest, WhatThisHubDoesNotHaveIs404) {
  EXPECT_EQ(post("/xet/v1/xorb-grants/default/" + std::string(64, 'a'), "{}", token()).status, 404);
  EXPECT_EQ(get("/xet/v2/file-chunk-hashes/" + std::string(64, 'a'), token()).status, 404);
  int telemetry = post("/v1/telemetry", "{}", token()).status;
  EXPECT_TRUE(telemetry == 404 || telemetry == 200) << telemetry;
}

}  // namespace
}  // namespace pretrained::server
