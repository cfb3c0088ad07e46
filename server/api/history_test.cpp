#include "server/api/testing.h"

namespace pretrained::server {
namespace {

class HistoryTest : public HubTest {
 protected:
  Repo repo = make_repo("m");
  std::string api = "/api/models/alice/m";
  std::string head(const std::string& ref = "main") {
    return git.resolve(repo.access.id, ref).value_or("");
  }
};

TEST_F(HistoryTest, CommitsInPages) {
  for (int i = 0; i < 4; ++i)
    ASSERT_EQ(
        commit("alice/m", header_line("c" + std::to_string(i)) + file_line("f", std::to_string(i)))
            .status,
        200);
  auto all = get(api + "/commits/main");
  EXPECT_EQ(all.header("X-Total-Count"), "5");
  EXPECT_FALSE(all.headers.has("Link"));
  auto json = all.json();
  EXPECT_EQ(text_at(json, "0.id"), head());
  EXPECT_EQ(text_at(json, "0.title"), "c3");
  EXPECT_EQ(text_at(json, "0.authors.0.user"), "alice");
  EXPECT_EQ(text_at(json, "4.title"), "initial commit");
  EXPECT_EQ(text_at(json, "0.date").size(), 24u);
  EXPECT_TRUE(at(json, "0.formatted").is_null());

  auto page = get(api + "/commits/main?limit=2");
  EXPECT_EQ(page.header("X-Total-Count"), "5");
  std::string link = page.header("Link");
  ASSERT_TRUE(link.starts_with("<http://hub.test/api/models/alice/m/commits/main?")) << link;
  page = get(local(link.substr(1, link.find('>') - 1)));
  EXPECT_EQ(text_at(page.json(), "0.title"), "c1");
  EXPECT_EQ(get(api + "/commits/main?p=99").body, "[]");
  EXPECT_EQ(get(api + "/commits/main?limit=x").status, 400);
}

TEST_F(HistoryTest, FormattedTitlesAreEscaped) {
  commit("alice/m", header_line("<b>&") + file_line("f", "1"));
  auto json = get(api + "/commits/main?expand[]=formatted").json();
  EXPECT_EQ(text_at(json, "0.title"), "<b>&");
  EXPECT_EQ(text_at(json, "0.formatted.title"), "&lt;b&gt;&amp;");
}

TEST_F(HistoryTest, BranchesAndTheirErrors) {
  EXPECT_EQ(post(api + "/branch/dev%2Fx", "{}", alice_token).status, 200);
  auto again = post(api + "/branch/dev%2Fx", "{}", alice_token);
  EXPECT_EQ(again.status, 409);
  EXPECT_EQ(text_at(again.json(), "error"), "Reference already exists: refs/heads/dev/x");
  std::string first = head();
  commit("alice/m", header_line("a") + file_line("f", "1"));
  EXPECT_EQ(post(api + "/branch/old", R"({"startingPoint":")" + first + "\"}", alice_token).status,
            200);
  EXPECT_EQ(head("old"), first);
  EXPECT_EQ(post(api + "/branch/old", R"({"overwrite":true})", alice_token).status, 200);
  EXPECT_EQ(head("old"), head());
  EXPECT_EQ(post(api + "/branch/b", R"({"startingPoint":"nope"})", alice_token).status, 404);
  for (std::string bad : {"a%20b", "a..b", "-x", "x.lock", "refs%2Fpr%2F9", "HEAD", "a%5E",
                          "0123456789012345678901234567890123456789", "a%2F%2Fb"})
    EXPECT_EQ(post(api + "/branch/" + bad, "{}", alice_token).status, 400) << bad;
  EXPECT_EQ(post(api + "/branch/b", "{}", bob_token).status, 403);
  EXPECT_EQ(post(api + "/branch/b", "{}").status, 401);
  EXPECT_EQ(ask("DELETE", api + "/branch/dev%2Fx", "", alice_token).status, 200);
  EXPECT_EQ(ask("DELETE", api + "/branch/dev%2Fx", "", alice_token).status, 404);
  EXPECT_EQ(ask("DELETE", api + "/branch/main", "", alice_token).status, 403);
}

TEST_F(HistoryTest, AnEmptyBranchStartsAnew) {
  commit("alice/m", header_line("a") + file_line("f", "1"));
  ASSERT_EQ(post(api + "/branch/empty", R"({"emptyBranch":true})", alice_token).status, 200);
  EXPECT_EQ(get(api + "/commits/empty").header("X-Total-Count"), "1");
  EXPECT_EQ(get("/alice/m/resolve/empty/f").status, 404);
  EXPECT_EQ(get("/alice/m/resolve/empty/.gitattributes").body,
            get("/alice/m/resolve/main/.gitattributes").body);
}

TEST_F(HistoryTest, TagsWithAndWithoutMessage) {
  EXPECT_EQ(post(api + "/tag/main", R"({"tag":"v1"})", alice_token).status, 200);
  EXPECT_EQ(post(api + "/tag/main", R"({"tag":"v2","message":"m"})", alice_token).status, 200);
  EXPECT_EQ(post(api + "/tag/main", R"({"tag":"v1"})", alice_token).status, 409);
  EXPECT_EQ(post(api + "/tag/nope", R"({"tag":"v3"})", alice_token).status, 404);
  EXPECT_EQ(post(api + "/tag/main", R"({"tag":"a b"})", alice_token).status, 400);
  EXPECT_EQ(post(api + "/tag/main", "{}", alice_token).status, 400);
  EXPECT_EQ(head("v2"), head());
  auto refs = get(api + "/refs").json();
  EXPECT_EQ(text_at(refs, "tags.1.targetCommit"), head());  // of the annotated tag, its commit
  EXPECT_EQ(ask("DELETE", api + "/tag/v1", "", alice_token).status, 200);
  EXPECT_EQ(ask("DELETE", api + "/tag/v1", "", alice_token).status, 404);
}

TEST_F(HistoryTest, Refs) {
  commit("alice/m", header_line("pr") + file_line("f", "1"), "main?create_pr=1", bob_token);
  auto refs = get(api + "/refs").json();
  EXPECT_EQ(text_at(refs, "branches.0.name"), "main");
  EXPECT_EQ(text_at(refs, "branches.0.ref"), "refs/heads/main");
  EXPECT_EQ(text_at(refs, "branches.0.targetCommit"), head());
  EXPECT_TRUE(at(refs, "converts").get_if<Json::Array>());
  EXPECT_TRUE(at(refs, "pullRequests").is_null());
  refs = get(api + "/refs?include_prs=1").json();
  EXPECT_EQ(text_at(refs, "pullRequests.0.name"), "refs/pr/1");
  EXPECT_EQ(text_at(refs, "pullRequests.0.targetCommit"), head("refs/pr/1"));
}

TEST_F(HistoryTest, SquashKeepsFilesAndDropsHistory) {
  commit("alice/m", header_line("a") + file_line("f", "1"));
  commit("alice/m", header_line("b") + file_line("f", "2"));
  EXPECT_EQ(post(api + "/super-squash/main", R"({"message":"all"})", bob_token).status, 403);
  ASSERT_EQ(post(api + "/super-squash/main", R"({"message":"all\n\nmore"})", alice_token).status,
            200);
  auto commits = get(api + "/commits/main");
  EXPECT_EQ(commits.header("X-Total-Count"), "1");
  EXPECT_EQ(text_at(commits.json(), "0.title"), "all");
  EXPECT_EQ(get("/alice/m/resolve/main/f").body, "2");
}

TEST_F(HistoryTest, Compare) {
  std::string first = head();
  commit("alice/m", header_line("a") + file_line("f", "one\n"));
  auto diff = get(api + "/compare/" + first + "..main?raw");
  EXPECT_EQ(diff.status, 200);
  EXPECT_NE(diff.body.find("+one"), std::string::npos);
  EXPECT_EQ(get(api + "/compare/" + first + "...main").body, diff.body);
  EXPECT_EQ(get(api + "/compare/main").status, 400);
  EXPECT_EQ(get(api + "/compare/main..nope").status, 404);
}

}  // namespace
}  // namespace pretrained::server
