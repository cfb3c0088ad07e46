// The whole API without a socket: requests in, answers out.

#include "server/api/app.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/common.h"
#include "server/repos/testing.h"

namespace pretrained::server {
namespace {

using testing::HasSubstr;

struct Answer {
  int status;
  std::string text;
  Headers headers;
  Json json() const { return Json::parse(text, "answer"); }
  Json at(const std::string& key) const {
    const Json body = json();
    const Json* found = body.find(key);
    return found ? *found : Json();
  }
  std::string header(std::string_view name) const { return std::string(headers.get(name)); }
};

class AppTest : public testing::Test, protected TemporaryHub {
 protected:
  explicit AppTest(AppOptions options = {})
      : app_(Services{database, blobs, accounts, git, content, repos, options,
                      std::string(32, 'k')}) {
    ann_ = token("ann", "write");
    bob_ = token("bob", "write");
    reader_ = accounts.create_token(accounts.find("ann")->id, "r", "read").secret;
  }

  std::string token(const std::string& name, const std::string& role) {
    return accounts.create_token(accounts.create_user(name).id, "t", role).secret;
  }
  Answer send(const std::string& method, const std::string& target, const std::string& token = "",
              const std::string& body = "", const Headers& headers = {}) {
    Request request;
    request.method = method;
    request.set_target(target);
    request.base_url = "http://hub";
    request.remote_address = "192.0.2.1";
    for (const auto& [name, value] : headers) request.headers.add(name, value);
    if (!token.empty()) request.headers.set("Authorization", "Bearer " + token);
    request.body = std::make_shared<StringBody>(body);
    Response response = app_.handle(request);
    auto* text = std::get_if<std::string>(&response.body);
    return {response.status, text ? *text : "", response.headers};
  }
  void make(const std::string& name, const std::string& more = "") {
    ASSERT_EQ(
        send("POST", "/api/repos/create", ann_, R"({"name": ")" + name + "\"" + more + "}").status,
        200);
  }

  App app_;
  std::string ann_, bob_, reader_;
};

TEST_F(AppTest, WhoAmI) {
  Answer answer = send("GET", "/api/whoami-v2", ann_);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.at("name"), Json("ann"));
  EXPECT_EQ(answer.at("orgs"), Json(Json::Array{}));
  EXPECT_EQ(*answer.at("auth").find("accessToken")->find("role"), Json("write"));
  Headers basic;
  basic.set("Authorization", "Basic " + encode_base64("anybody:" + ann_));
  EXPECT_EQ(send("GET", "/api/whoami-v2", "", "", basic).at("name"), Json("ann"));
  basic.set("Sec-Fetch-Site", "cross-site");
  EXPECT_EQ(send("GET", "/api/whoami-v2", "", "", basic).status, 403);
  EXPECT_EQ(send("GET", "/api/whoami-v2").status, 401);
}

TEST_F(AppTest, BadCredentials) {
  for (std::string header : {"Bearer hf_wrong", "Bearer", "Basic !!!", "Basic eA==", "Digest x"}) {
    Headers headers;
    headers.set("Authorization", header);
    Answer answer = send("GET", "/api/models", "", "", headers);
    EXPECT_EQ(answer.status, 401) << header;
    EXPECT_EQ(answer.header("X-Error-Message"), "Invalid credentials in Authorization header");
    EXPECT_NE(answer.header("WWW-Authenticate"), "");
  }
}

TEST_F(AppTest, ErrorsHaveTheirStatusAndHeaders) {
  make("net");
  make("hidden", R"(, "private": true)");
  struct Case {
    std::string method, target, token, body;
    int status;
    std::string code;
  };
  for (const Case& c : std::vector<Case>{
           {"GET", "/api/nothing/here", "", "", 404, ""},
           {"PATCH", "/api/repos/create", ann_, "", 405, ""},
           {"GET", "/api/models/ann/none", "", "", 404, "RepoNotFound"},
           {"GET", "/api/models/ann/hidden", "", "", 404, "RepoNotFound"},
           {"GET", "/api/models/ann/hidden/auth-check", bob_, "", 404, "RepoNotFound"},
           {"GET", "/api/models/ann/net/auth-check/write", bob_, "", 403, ""},
           {"GET", "/api/models/ann/net/auth-check/write", "", "", 401, ""},
           {"GET", "/api/models/ann/net/auth-check/write", reader_, "", 403, ""},
           {"GET", "/api/models/ann/net/auth-check/write", ann_, "", 200, ""},
           {"POST", "/api/repos/create", "", R"({"name": "x"})", 401, ""},
           {"POST", "/api/repos/create", reader_, R"({"name": "x"})", 403, ""},
           {"POST", "/api/repos/create", bob_, R"({"name": "x", "organization": "ann"})", 403, ""},
           {"POST", "/api/repos/create", bob_, R"({"name": "x", "organization": "no"})", 403, ""},
           {"POST", "/api/repos/create", ann_, "{", 400, ""},
           {"POST", "/api/repos/create", ann_, "[]", 400, ""},
           {"POST", "/api/repos/create", ann_, R"({"name": 1})", 400, ""},
           {"POST", "/api/repos/create", ann_, R"({"name": "a b"})", 400, ""},
           {"POST", "/api/repos/create", ann_, R"({"name": "x", "type": "y"})", 400, ""},
           {"POST", "/api/repos/create", ann_, R"({"name": "net"})", 409, ""},
           {"DELETE", "/api/repos/delete", bob_, R"({"name": "ann/net"})", 403, ""},
           {"DELETE", "/api/repos/delete", bob_, R"({"name": "ann/hidden"})", 404, "RepoNotFound"},
           {"POST", "/api/validate-yaml", "", std::string(9 << 20, ' '), 413, ""},
           {"GET", "/api/models?sort=bogus", "", "", 400, ""},
           {"GET", "/api/models?limit=x", "", "", 400, ""},
       }) {
    Answer answer = send(c.method, c.target, c.token, c.body);
    EXPECT_EQ(answer.status, c.status) << c.method << " " << c.target << " " << answer.text;
    EXPECT_EQ(answer.header("X-Error-Code"), c.code) << c.target;
    if (c.status >= 400) EXPECT_NE(answer.at("error"), Json()) << c.target;
    if (c.status >= 400) EXPECT_NE(answer.header("X-Error-Message"), "") << c.target;
    EXPECT_EQ(answer.header("Access-Control-Allow-Origin"), "*");
    EXPECT_THAT(answer.header("Access-Control-Expose-Headers"), HasSubstr("X-Repo-Commit"));
    EXPECT_NE(answer.header("X-Request-Id"), "");
  }
  EXPECT_EQ(send("PATCH", "/api/repos/create", ann_).header("Allow"), "POST");
}

TEST_F(AppTest, Preflight) {
  Answer answer = send("OPTIONS", "/api/models/ann/net");
  EXPECT_EQ(answer.status, 204);
  EXPECT_THAT(answer.header("Access-Control-Allow-Headers"), HasSubstr("Authorization"));
  EXPECT_THAT(answer.header("Access-Control-Allow-Methods"), HasSubstr("PUT"));
  EXPECT_EQ(answer.header("Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(answer.header("Access-Control-Allow-Credentials"), "") << "tokens only";
}

TEST_F(AppTest, WhatPagesOfOtherSitesMayRead) {
  make("net");
  for (const char* target : {"/api/models/ann/net", "/ann/net/resolve/main/.gitattributes",
                             "/ann/net/resolve/main/nope", "/api/models/ann/nope"}) {
    Answer answer = send("GET", target);
    EXPECT_EQ(answer.header("Access-Control-Allow-Origin"), "*") << target;
    std::string exposed = "," + answer.header("Access-Control-Expose-Headers") + ",";
    for (const char* name :
         {"Link", "ETag", "X-Repo-Commit", "X-Linked-Size", "X-Linked-ETag", "X-Xet-Hash",
          "X-Error-Code", "X-Error-Message", "X-Request-Id", "X-Total-Count", "Content-Range",
          "Accept-Ranges", "Content-Disposition", "Location", "Retry-After"})
      EXPECT_THAT(exposed, HasSubstr("," + std::string(name) + ",")) << target;
  }
}

TEST_F(AppTest, CreateMoveDelete) {
  Answer made = send("POST", "/api/repos/create", ann_,
                     R"({"name": "net", "organization": null, "visibility": "private"})");
  EXPECT_EQ(made.at("url"), Json("http://hub/ann/net"));
  Answer twice = send("POST", "/api/repos/create", ann_, R"({"name": "net"})");
  EXPECT_EQ(twice.status, 409);
  EXPECT_EQ(twice.at("url"), made.at("url"));
  EXPECT_EQ(twice.at("id"), made.at("id"));
  EXPECT_EQ(send("GET", "/api/models/ann/net", ann_).at("private"), Json(true));
  EXPECT_EQ(send("PUT", "/api/models/ann/net/settings", ann_, R"({"visibility": "public"})").status,
            200);
  EXPECT_EQ(send("POST", "/api/repos/move", ann_,
                 R"({"fromRepo": "ann/net", "toRepo": "ann/new", "type": "model"})")
                .status,
            200);
  Answer old = send("GET", "/api/models/ann/net/revision/refs%2Fheads%2Fmain?blobs=1");
  EXPECT_EQ(old.status, 307);
  EXPECT_EQ(old.header("Location"),
            "http://hub/api/models/ann/new/revision/refs%2Fheads%2Fmain?blobs=1");
  EXPECT_EQ(send("GET", "/ann/net.git/info/refs?service=git-upload-pack").header("Location"),
            "http://hub/ann/new.git/info/refs?service=git-upload-pack");
  EXPECT_EQ(send("POST", "/ann/net.git/info/lfs/objects/batch", bob_).header("Location"),
            "http://hub/ann/new.git/info/lfs/objects/batch");
  send("PUT", "/api/models/ann/new/settings", ann_, R"({"private": true})");
  EXPECT_EQ(send("GET", "/api/models/ann/net").status, 404);  // no redirect for strangers
  EXPECT_EQ(send("POST", "/ann/net.git/info/lfs/objects/batch", bob_).status, 404);
  EXPECT_EQ(send("DELETE", "/api/repos/delete", ann_, R"({"name": "new"})").status, 200);
  EXPECT_EQ(send("GET", "/api/models/ann/new", ann_).status, 404);
}

TEST_F(AppTest, ANewRepositoryTakesAnOldName) {
  make("net");
  send("POST", "/api/repos/move", ann_, R"({"fromRepo": "ann/net", "toRepo": "ann/new"})");
  EXPECT_EQ(send("GET", "/api/models/ann/net").status, 307);
  Answer made = send("POST", "/api/repos/create", ann_, R"({"name": "net"})");
  EXPECT_EQ(made.at("url"), Json("http://hub/ann/net"));
  EXPECT_EQ(send("GET", "/api/models/ann/net").at("id"), Json("ann/net"));
  send("DELETE", "/api/repos/delete", ann_, R"({"name": "net"})");
  EXPECT_EQ(send("GET", "/api/models/ann/net").status, 404) << "the redirect is gone for good";
  EXPECT_EQ(send("GET", "/api/models/ann/new").status, 200);
}

TEST_F(AppTest, ANewUserOfAnOldNameInheritsNothing) {
  make("net");
  const std::string all = "/api/models/ann/net/discussions";
  send("POST", all, bob_, R"({"title": "Fix", "description": "d", "pullRequest": true})");
  Answer made = send("POST", all + "/1/comment", bob_, R"({"comment": "mine"})");
  std::string comment =
      all + "/1/comment/" + *made.at("newMessage").find("id")->get_if<std::string>();
  accounts.remove(accounts.find("bob")->id);
  std::string second = accounts.create_token(accounts.create_user("bob").id, "w", "write").secret;
  EXPECT_EQ(send("POST", comment + "/edit", second, R"({"content": "x"})").status, 403);
  EXPECT_EQ(send("POST", comment + "/hide", second).status, 403);
  EXPECT_EQ(send("POST", all + "/1/title", second, R"({"title": "x"})").status, 403);
  EXPECT_EQ(send("POST", all + "/1/status", second, R"({"status": "closed"})").status, 403);
  EXPECT_EQ(send("POST", "/api/models/ann/net/preupload/refs%2Fpr%2F1", second, R"({"files": []})")
                .status,
            403);
  EXPECT_EQ(send("GET", "/api/users/bob/overview").at("numDiscussions"), Json(0));
  EXPECT_EQ(send("POST", comment + "/hide", ann_).status, 200);
}

TEST_F(AppTest, CopiesOfClosedRepositoriesAreClosed) {
  make("net");
  make("gated");
  make("hidden", R"(, "private": true)");
  send("PUT", "/api/models/ann/gated/settings", ann_, R"({"gated": "auto"})");
  for (auto& [name, is_private] :
       std::map<std::string, bool>{{"net", false}, {"gated", true}, {"hidden", true}}) {
    send("POST", "/api/models/ann/" + name + "/duplicate", ann_,
         R"({"repository": "ann/copy-)" + name + "\"}");
    Answer copy = send("GET", "/api/models/ann/copy-" + name, ann_);
    EXPECT_EQ(copy.at("private"), Json(is_private)) << name;
    EXPECT_EQ(copy.at("gated"), Json(false)) << name;
  }
  send("POST", "/api/models/ann/gated/duplicate", ann_,
       R"({"repository": "ann/shown", "visibility": "public"})");
  EXPECT_EQ(send("GET", "/api/models/ann/shown").at("private"), Json(false)) << "as asked";
}

TEST_F(AppTest, Duplicate) {
  make("net", R"(, "license": "mit")");
  Answer copy =
      send("POST", "/api/models/ann/net/duplicate", bob_, R"({"repository": "bob/copy"})");
  EXPECT_EQ(copy.at("url"), Json("http://hub/bob/copy"));
  EXPECT_EQ(*send("GET", "/api/models/bob/copy").at("cardData").find("license"), Json("mit"));
}

TEST_F(AppTest, ListsPageByLink) {
  for (int i = 0; i < 5; ++i) make("m" + std::to_string(i));
  make("hidden", R"(, "private": true)");
  std::string target = "/api/models?limit=2&author=ann&expand=likes&expand=tags";
  size_t seen = 0, pages = 0;
  while (!target.empty() && ++pages < 10) {
    Answer answer = send("GET", target);
    seen += answer.json().get_if<Json::Array>()->size();
    std::string link = answer.header("Link");
    size_t end = link.find(">; rel=\"next\"");
    target =
        end == link.npos ? "" : link.substr(1, end - 1).substr(std::string("http://hub").size());
  }
  EXPECT_EQ(seen, 5u);
  EXPECT_EQ(pages, 3u);
  EXPECT_EQ(send("GET", "/api/models", ann_).json().get_if<Json::Array>()->size(), 6u);
  EXPECT_EQ(send("GET", "/api/datasets").text, "[]");
}

TEST_F(AppTest, GatedRepositories) {
  make("net");
  const std::string repo = "/api/models/ann/net";
  send("PUT", repo + "/settings", ann_, R"({"gated": "manual"})");
  Answer refused = send("GET", repo + "/auth-check", bob_);
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(refused.header("X-Error-Code"), "GatedRepo");
  EXPECT_EQ(send("GET", repo + "/auth-check").status, 401);
  EXPECT_EQ(send("POST", repo + "/ask-access", bob_, R"({"why": "research"})").at("status"),
            Json("pending"));
  Answer pending = send("GET", repo + "/user-access-request/pending", ann_);
  const Json request = (*pending.json().get_if<Json::Array>())[0];
  EXPECT_EQ(*request.find("user")->find("user"), Json("bob"));
  EXPECT_EQ(*request.find("fields")->find("why"), Json("research"));
  EXPECT_EQ(send("GET", repo + "/user-access-request/pending", bob_).status, 403);
  std::string id = *request.find("requestId")->get_if<std::string>();
  EXPECT_EQ(send("POST", repo + "/user-access-request/handle", ann_,
                 R"({"status": "accepted", "requestId": ")" + id + "\"}")
                .status,
            200);
  EXPECT_EQ(send("GET", repo + "/auth-check", bob_).status, 200);
  EXPECT_EQ(send("POST", repo + "/user-access-request/grant", ann_, R"({"user": "bob"})").status,
            400);
  send("POST", repo + "/user-access-request/handle", ann_,
       R"({"status": "rejected", "user": "bob"})");
  EXPECT_EQ(send("POST", repo + "/ask-access", bob_).status, 403);
  EXPECT_EQ(send("GET", repo + "/auth-check", bob_).status, 403);
}

TEST_F(AppTest, Discussions) {
  make("net");
  const std::string all = "/api/models/ann/net/discussions";
  EXPECT_EQ(send("POST", all, "", R"({"title": "t"})").status, 401);
  EXPECT_EQ(send("POST", all, reader_, R"({"title": "t"})").status, 403);
  Answer made =
      send("POST", all, bob_, R"({"title": "Fix", "description": "d", "pullRequest": true})");
  ASSERT_EQ(made.status, 200) << made.text;
  EXPECT_EQ(made.at("num"), Json(1));
  Answer details = send("GET", all + "/1?diff=1");
  EXPECT_EQ(details.at("status"), Json("draft"));
  EXPECT_EQ(details.at("filesWithConflicts"), Json(Json::Array{}));
  EXPECT_EQ(*details.at("changes").find("base"), Json("refs/heads/main"));
  Answer comment = send("POST", all + "/1/comment", ann_, R"({"comment": "Nice"})");
  std::string id = *comment.at("newMessage").find("id")->get_if<std::string>();
  EXPECT_EQ(send("POST", all + "/1/comment/" + id + "/edit", bob_, R"({"content": "x"})").status,
            403);
  EXPECT_EQ(send("POST", all + "/1/comment/" + id + "/hide", bob_).status, 403);
  EXPECT_EQ(send("POST", all + "/1/comment/" + id + "/edit", ann_, R"({"content": "x"})").status,
            200);
  EXPECT_EQ(send("POST", all + "/1/merge", bob_).status, 403);
  EXPECT_EQ(send("POST", all + "/1/merge", ann_).status, 409);  // a draft
  EXPECT_EQ(send("POST", all + "/1/status", bob_, R"({"status": "open"})").status, 200);
  EXPECT_EQ(send("POST", all + "/1/merge", ann_).status, 400);  // nothing to merge
  EXPECT_EQ(send("POST", all + "/1/title", bob_, R"({"title": "New"})").status, 200);
  EXPECT_EQ(send("GET", all + "?p=0&type=pull_request&status=open").at("count"), Json(1));
  EXPECT_EQ(send("GET", all + "/2").status, 404);
  EXPECT_EQ(send("GET", all + "/x").status, 400);
}

TEST_F(AppTest, Attachments) {
  Headers png, html;
  png.set("Content-Type", "image/png");
  html.set("Content-Type", "text/html");
  EXPECT_EQ(send("POST", "/uploads", "", "x", png).status, 401);
  EXPECT_EQ(send("POST", "/uploads", reader_, "x", png).status, 403);
  EXPECT_EQ(send("POST", "/uploads", ann_, "x", html).status, 415);
  EXPECT_EQ(send("POST", "/uploads", ann_, "", png).status, 400);
  EXPECT_EQ(send("POST", "/uploads", ann_, std::string((10 << 20) + 1, 'x'), png).status, 413);
  Answer answer = send("POST", "/uploads", ann_, "bytes", png);
  ASSERT_EQ(answer.status, 200) << answer.text;
  EXPECT_THAT(answer.text, testing::MatchesRegex("http://hub/uploads/[0-9a-f]+\\.png"));
  std::string path = answer.text.substr(std::string("http://hub").size());
  Answer head = send("HEAD", path);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.header("Content-Type"), "image/png");
  EXPECT_THAT(head.header("Content-Security-Policy"), HasSubstr("sandbox"));
  EXPECT_EQ(send("HEAD", path + "x").status, 404);

  auto blob_of = [&] {
    return database.read([](Transaction& t) { return t.one("SELECT blob FROM attachments"); });
  };
  std::string blob = blob_of()->text(0);
  EXPECT_EQ(blobs.size(blob), 5u);
  EXPECT_EQ(send("DELETE", path, bob_).status, 403);
  EXPECT_EQ(send("DELETE", path, ann_).status, 200);
  EXPECT_EQ(send("HEAD", path).status, 404);
  git.sweep();
  EXPECT_THROW(blobs.size(blob), NotFoundError);

  // They count for the quota, and go with their user.
  accounts.set_quota(accounts.find("bob")->id, 7);
  EXPECT_EQ(send("POST", "/uploads", bob_, "12345", png).status, 200);
  EXPECT_EQ(send("POST", "/uploads", bob_, "678", png).header("X-Error-Code"), "QuotaExceeded");
  blob = blob_of()->text(0);
  accounts.remove(accounts.find("bob")->id);
  EXPECT_FALSE(blob_of());
  git.sweep();
  EXPECT_THROW(blobs.size(blob), NotFoundError);
}

TEST_F(AppTest, LikesAndPeople) {
  make("net");
  EXPECT_EQ(send("POST", "/api/models/ann/net/like", bob_).status, 200);
  EXPECT_EQ(send("GET", "/api/models/ann/net").at("likes"), Json(1));
  EXPECT_THAT(send("GET", "/api/models/ann/net/likers").text, HasSubstr("\"user\": \"bob\""));
  EXPECT_THAT(send("GET", "/api/users/bob/likes").text, HasSubstr("ann/net"));
  send("PUT", "/api/models/ann/net/settings", ann_, R"({"private": true})");
  EXPECT_EQ(send("GET", "/api/users/bob/likes").text, "[]");
  EXPECT_EQ(send("GET", "/api/users/ann/overview").at("numModels"), Json(0));
  EXPECT_EQ(send("GET", "/api/users/ann/overview", ann_).at("numModels"), Json(1));
  EXPECT_EQ(send("GET", "/api/users/nobody/overview").status, 404);
  EXPECT_EQ(send("GET", "/api/settings/repositories", bob_).text, "[]");
}

TEST_F(AppTest, Webhooks) {
  make("net");
  const std::string all = "/api/settings/webhooks";
  const std::string body = R"({"watched": [{"type": "model", "name": "ann/net"}],
                               "url": "https://example.com/", "domains": ["repo"],
                               "secret": "s"})";
  EXPECT_EQ(send("POST", all, bob_, body).status, 403);
  Answer made = send("POST", all, ann_, body);
  ASSERT_EQ(made.status, 200) << made.text;
  std::string one = all + "/" + *made.at("webhook").find("id")->get_if<std::string>();
  EXPECT_EQ(*made.at("webhook").find("disabled"), Json(false));
  EXPECT_EQ(send("GET", one, bob_).status, 404);
  EXPECT_EQ(*send("POST", one + "/disable", ann_).at("webhook").find("disabled"), Json(true));
  EXPECT_EQ(send("POST", one, ann_, R"({"url": "file:///etc/passwd"})").status, 400);
  EXPECT_EQ(send("POST", one, ann_, R"({"secret": "a\r\nX-Evil: 1"})").status, 400);
  EXPECT_EQ(send("GET", all, ann_).json().get_if<Json::Array>()->size(), 1u);
  EXPECT_EQ(send("DELETE", one, ann_).status, 200);
  EXPECT_EQ(send("GET", all, ann_).text, "[]");
}

TEST_F(AppTest, DeviceLogin) {
  Answer start = send("POST", "/oauth/device", "", "client_id=x");
  std::string device = *start.at("device_code").get_if<std::string>();
  std::string code = *start.at("user_code").get_if<std::string>();
  EXPECT_EQ(start.at("verification_uri"), Json("http://hub/oauth/approve"));
  std::string poll =
      "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=" + device;
  Answer waiting = send("POST", "/oauth/token", "", poll);
  EXPECT_EQ(waiting.status, 400);
  EXPECT_EQ(waiting.at("error"), Json("authorization_pending"));

  Answer page = send("GET", "/oauth/approve?user_code=%22%3E%3Cscript%3E");
  EXPECT_THAT(page.text, testing::Not(HasSubstr("<script>")));
  EXPECT_THAT(page.header("Content-Security-Policy"), HasSubstr("frame-ancestors 'none'"));
  // With "no-referrer" browsers would send the form with "Origin: null".
  EXPECT_EQ(page.header("Referrer-Policy"), "same-origin");
  size_t at = page.text.find("name=\"form\" value=\"") + 19;
  std::string form = page.text.substr(at, page.text.find('"', at) - at);
  auto post = [&](const std::string& more, const Headers& headers = {}) {
    return send("POST", "/oauth/approve", "", "decision=approve&user_code=" + code + more, headers)
        .status;
  };
  EXPECT_EQ(post("&token=" + ann_), 403);                           // no form
  EXPECT_EQ(post("&token=" + ann_ + "&form=99999999999.00"), 403);  // a forged one
  EXPECT_EQ(post("&token=" + reader_ + "&form=" + form), 403);      // may only read
  EXPECT_EQ(post("&name=ann&password=wrong&form=" + form), 403);
  Headers foreign;
  foreign.set("Origin", "http://evil");
  EXPECT_EQ(post("&token=" + ann_ + "&form=" + form, foreign), 403);
  EXPECT_EQ(post("&token=" + ann_ + "&form=" + form), 200);
  EXPECT_EQ(post("&token=" + ann_ + "&form=" + form), 404);  // once
  int guesses = 0;
  while (guesses < 40 && post("&name=ann&password=wrong&form=" + form) == 403) ++guesses;
  EXPECT_LT(guesses, 40) << "passwords can be guessed without end";
}

TEST_F(AppTest, JsonThatWouldFillTheMemory) {
  std::string many = R"({"content": "", "x": [)";
  for (int i = 0; i < 1'000'000; ++i) many += "0,";
  many += "0]}";
  EXPECT_EQ(send("POST", "/api/validate-yaml", "", many).status, 413);
  std::string commas(1'000'000, ',');
  EXPECT_EQ(send("POST", "/api/validate-yaml", "", R"({"content": "\")" + commas + "\"}").status,
            200);
}

TEST_F(AppTest, OddsAndEnds) {
  Answer card = send("POST", "/api/validate-yaml", "",
                     R"({"content": "---\na: [\n---\n", "repoType": "model"})");
  EXPECT_EQ(card.status, 400);
  EXPECT_THAT(card.text, HasSubstr("message"));
  EXPECT_EQ(send("POST", "/api/validate-yaml", "", R"({"content": "# x"})").status, 200);
  EXPECT_EQ(send("GET", "/api/agent-harnesses").status, 404);
  EXPECT_EQ(send("HEAD", "/api/telemetry/a/b").status, 200);
  EXPECT_EQ(send("GET", "/api/models-tags-by-type").text, "{}");
  EXPECT_EQ(send("GET", "/healthz").text, "ok\n");
  EXPECT_EQ(send("GET", "/metrics").status, 403);
  EXPECT_EQ(send("GET", "/metrics", bob_).status, 403);
}

class OpenTest : public AppTest {
 protected:
  OpenTest()
      : AppTest([] {
          AppOptions options;
          options.anonymous = Role::write;
          return options;
        }()) {}
};

TEST_F(OpenTest, PagesOfOtherSitesWriteNothingAsNobody) {
  make("m");
  auto branch = [&](const std::string& name, const std::string& header, const std::string& value,
                    const std::string& token = "") {
    Headers headers;
    headers.set(header, value);
    return send("POST", "/api/models/ann/m/branch/" + name, token, "{}", headers).status;
  };
  EXPECT_EQ(branch("a", "Origin", "http://hub"), 200);
  EXPECT_EQ(branch("b", "Origin", "http://evil"), 401);
  EXPECT_EQ(branch("b", "Sec-Fetch-Site", "cross-site"), 401);
  EXPECT_EQ(branch("b", "Origin", "http://evil", ann_), 200);
}

class LimitedTest : public AppTest {
 protected:
  LimitedTest()
      : AppTest([] {
          AppOptions options;
          options.rate_limit = 3;
          return options;
        }()) {}
};

TEST_F(LimitedTest, TooManyRequests) {
  for (int i = 2; i >= 0; --i) {
    Answer answer = send("GET", "/api/models");
    EXPECT_EQ(answer.status, 200);
    EXPECT_THAT(answer.header("ratelimit"),
                testing::StartsWith("\"api\";r=" + std::to_string(i) + ";t="));
  }
  Answer answer = send("GET", "/api/models");
  EXPECT_EQ(answer.status, 429);
  EXPECT_THAT(answer.header("Retry-After"), testing::MatchesRegex("[0-9]+"));
  EXPECT_EQ(answer.header("ratelimit-policy"), "\"fixed window\";\"api\";q=3;w=300");
  EXPECT_EQ(send("GET", "/api/models", ann_).status, 200);  // a count of its own
  EXPECT_EQ(send("GET", "/healthz").status, 200);
}

TEST(Base64, RoundTrip) {
  for (size_t n = 0; n < 40; ++n) {
    std::string bytes;
    for (size_t i = 0; i < n; ++i) bytes += char(i * 37);
    EXPECT_EQ(decode_base64(encode_base64(bytes)), bytes);
  }
  EXPECT_EQ(decode_base64("aGk"), "hi");
  EXPECT_EQ(decode_base64("aGk*"), std::nullopt);
  EXPECT_EQ(decode_base64("a"), std::nullopt);
}

}  // namespace
}  // namespace pretrained::server
