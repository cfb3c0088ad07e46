// What a hub may answer, and what it may not.
#include "pretrained/hub/client.h"

#include <gmock/gmock.h>

#include "pretrained/hub/answers.h"
#include "pretrained/hub/testing.h"

namespace pretrained::hub {
namespace {

using testing::Asked;
using ::testing::HasSubstr;
using testing::LoopbackServer;
using testing::reply;

const std::string kOid(40, 'a'), kSha(64, 'b');

std::string entry(const std::string& path, const std::string& more = "") {
  return R"({"type":"file","path":")" + path + R"(","oid":")" + kOid + R"(","size":3)" + more + "}";
}

std::vector<RemoteFile> files_of(const std::string& json) {
  return read_files(Json::parse(json, "answer"), "org/name");
}

TEST(Answers, Files) {
  auto files = files_of(
      "[" + entry("a/b.txt") + R"(,{"type":"directory","path":"a","oid":"x"},)" +
      entry("c.bin", R"(,"lfs":{"oid":")" + kSha + R"(","size":9},"xetHash":")" + kSha + "\"") +
      "]");
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].etag(), kOid);
  EXPECT_EQ(files[1].etag(), kSha);
  EXPECT_EQ(files[1].size, 9u);
  EXPECT_EQ(files[1].xet_hash, kSha);
}

TEST(Answers, PathsStayInside) {
  for (std::string path : std::vector<std::string>{
           "", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a/./b", "a/..", ".git/config",
           "a/.git/hooks/x", ".git", R"(a\\b)", R"(a\u0000b)", std::string(5000, 'x')})
    EXPECT_THROW(files_of("[" + entry(path) + "]"), FormatError) << path;
  for (std::string path : {"a", "..a", "a..", "...", ".a/b", ".gitignore", "a b/\\u00fc"})
    EXPECT_EQ(files_of("[" + entry(path) + "]").size(), 1u) << path;
}

TEST(Answers, FieldsAreChecked) {
  for (std::string json : std::vector<std::string>{
           "{}", "null", "[1]", "[{}]", R"([{"type":"file"}])",
           R"([{"type":"file","path":"a","oid":"../../x","size":3}])",
           R"([{"type":"file","path":"a","oid":")" + kOid + R"(","size":-1}])",
           R"([{"type":"file","path":"a","oid":")" + kOid + R"(","size":"3"}])",
           "[" + entry("a", R"(,"lfs":{"oid":"short","size":1})") + "]",
           "[" + entry("a", R"(,"lfs":[])") + "]", "[" + entry("a", R"(,"xetHash":1)") + "]"})
    EXPECT_THROW(files_of(json), FormatError) << json;
}

TEST(Answers, NoFileTwiceOrAsAFolder) {
  auto check = [](std::vector<std::string> paths) {
    std::vector<RemoteFile> files;
    for (auto& path : paths) files.push_back({path});
    check_listing(files, "org/name");
  };
  check({"a", "a-b", "a.b/c", "b/a", "ab"});
  EXPECT_THROW(check({"a", "b", "a"}), FormatError);
  EXPECT_THROW(check({"a", "a-b", "a/b"}), FormatError);
  EXPECT_THROW(check({"x/a/b/c", "x/a", "x/a.b"}), FormatError);
}

TEST(Answers, LinkHeaders) {
  EXPECT_EQ(next_page("<http://a/b?c=1,2>; rel=\"next\""), "http://a/b?c=1,2");
  EXPECT_EQ(next_page("<http://a>; rel=\"prev\", <http://b>; rel=\"next\""), "http://b");
  EXPECT_EQ(next_page("<http://a>; rel=\"prev\""), "");
  for (auto* link : {"", "<", "<>", ">; rel=\"next\"", "<http://a"}) EXPECT_EQ(next_page(link), "");
}

TEST(Answers, XetTokens) {
  auto read = [](const std::string& url) {
    return read_xet_token(Json::Object{{"accessToken", "t"}, {"casUrl", url}, {"exp", 5}}, "x");
  };
  EXPECT_EQ(read("https://cas.example/").cas_url, "https://cas.example");
  for (auto* url : {"", "cas.example", "file:///x", "https://user:pw@cas"})
    EXPECT_THROW(read(url), FormatError) << url;
}

TEST(RepoReference, Parses) {
  EXPECT_EQ(parse_repo_reference("org/name")->id, "org/name");
  EXPECT_EQ(parse_repo_reference("org/name@refs/pr/1")->revision, "refs/pr/1");
  for (auto* text : {"", "name", "./a", "/a/b", "../a/b", "a/b/c", "org/name@", "org/name@a b",
                     "org/na me", "org/", "/name", "~/name", "org/-x", "org/x.git"})
    EXPECT_FALSE(parse_repo_reference(text)) << text;
  EXPECT_THROW(check_repo_id("name"), ArgumentError);
  EXPECT_THROW(check_repo_id("org/" + std::string(100, 'a')), ArgumentError);
}

HubClient client_of(const LoopbackServer& server) {
  return HubClient({.endpoint = server.url(), .token = "hf_secret"});
}

TEST(Client, PagesStayOnTheHub) {
  LoopbackServer other([](const Asked&) { return reply(200, "[]"); });
  std::string link;
  LoopbackServer server(
      [&](const Asked&) { return reply(200, "[]", {"Link: <" + link + ">; rel=\"next\""}); });
  auto client = client_of(server);
  for (std::string to :
       {other.url("/x"), std::string("file:///etc/passwd"), std::string("/relative")}) {
    link = to;
    EXPECT_THROW(client.list_files({"org/name"}, kOid), IntegrityError) << to;
  }
  EXPECT_TRUE(other.asked().empty());
}

TEST(Client, AListHasAnEnd) {
  std::atomic<int> page = 0;
  LoopbackServer server([&](const Asked&) {
    std::string next = "<" + server.url("/next?" + std::to_string(page++)) + ">; rel=\"next\"";
    return reply(200, "[" + std::string(16'000'000, ' ') + "]", {"Link: " + next});
  });
  HubClient client({.endpoint = server.url(), .token = ""});
  EXPECT_THROW(client.list_files({"org/name"}, kOid), IntegrityError);
  EXPECT_LT(page, 20);
}

TEST(Client, AFolderListsWhatIsInIt) {
  LoopbackServer server([](const Asked&) { return reply(200, "[" + entry("b/x") + "]"); });
  EXPECT_THROW(client_of(server).list_files({"org/name"}, kOid, "a"), FormatError);
  EXPECT_THROW(client_of(server).paths_info({"org/name"}, kOid, {"a"}), FormatError);
}

TEST(Client, AnotherCommitThanAskedFor) {
  LoopbackServer server([](const Asked&) { return reply(200, R"({"sha":")" + kOid + "\"}"); });
  EXPECT_EQ(client_of(server).resolve_revision({"org/name"}, "main"), kOid);
  EXPECT_THROW(client_of(server).resolve_revision({"org/name"}, std::string(40, 'b')),
               IntegrityError);
}

TEST(Client, WhatIsNoJson) {
  LoopbackServer server(
      [](const Asked&) { return reply(200, "<html>log in to the hotel</html>"); });
  try {
    client_of(server).whoami();
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_THAT(error.what(), HasSubstr(server.url() + ": the hub's answer"));
  }
}

TEST(Client, SuggestionsThatFailChangeNothing) {
  LoopbackServer server([](const Asked& asked) {
    if (asked.target.starts_with("/api/models/org/name/revision"))
      return reply(404, "no", {"X-Error-Code: RevisionNotFound"});
    return reply(400, "no refs");
  });
  EXPECT_THROW(client_of(server).resolve_revision({"org/name"}, "mian"), RevisionNotFound);
}

}  // namespace
}  // namespace pretrained::hub
