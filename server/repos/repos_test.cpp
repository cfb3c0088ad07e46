#include "server/repos/repos.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "server/repos/discussions.h"
#include "server/repos/testing.h"

namespace pretrained::server {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

class ReposTest : public testing::Test, protected TemporaryHub {
 protected:
  Repo make(const Caller& by, const std::string& name, bool is_private = false) {
    return repos.create(by, "model", *by.user, name, is_private);
  }
  using Files = std::vector<std::pair<std::string, std::string>>;
  // A commit on `reference`, built on `parent` (where it is now, if absent).
  Oid commit(const Caller& by, const Repo& repo, const Files& files,
             const std::string& reference = "refs/heads/main") {
    Oid parent = *git.resolve(repo.access.id, reference);
    NewCommit change;
    change.title = "change";
    change.author = commit_author(by);
    for (const auto& [path, content] : files)
      change.changes.push_back({FileChange::Kind::add, path, content});
    auto stored = git.write_commit(repo.access.id, {parent}, change).value();
    repos.publish(by, repo, {stored}, {{reference, parent, stored.commit}}, {});
    return stored.commit;
  }
  std::string read(const Repo& repo, const std::string& path) {
    auto view = git.open(repo.access.id);
    auto entry = view->entry(*git.resolve(repo.access.id, "HEAD"), path);
    return entry ? view->read_blob(entry->oid) : "(absent)";
  }
  std::vector<std::string> names(const Caller& caller, ListQuery query = {}) {
    std::string next;
    std::vector<std::string> found;
    for (const auto& repo : repos.list(caller, query, next)) found.push_back(repo.full_name());
    return found;
  }
  Repo now(const Repo& repo) { return repos.find(repo.access.id).value(); }

  Discussions discussions_{database, git, repos};
  Caller ann_ = caller("ann"), bob_ = caller("bob"), nobody_;
};

TEST_F(ReposTest, ANewOneHasItsFirstCommit) {
  Repo repo = make(ann_, "net");
  EXPECT_EQ(repo.full_name(), "ann/net");
  EXPECT_EQ(repo.uid.size(), 24u);
  EXPECT_THAT(read(repo, ".gitattributes"),
              testing::HasSubstr("*.safetensors filter=lfs diff=lfs merge=lfs -text\n"));
  auto head = git.resolve(repo.access.id, "HEAD");
  EXPECT_EQ(git.open(repo.access.id)->commit(*head)->title, "initial commit");
  EXPECT_THROW(make(ann_, "net"), ConflictError);
  EXPECT_THROW(make(ann_, "NET"), ConflictError);
  EXPECT_NO_THROW(repos.create(ann_, "dataset", *ann_.user, "net", false));
}

TEST_F(ReposTest, BadNames) {
  for (const char* name : {"", "a/b", "a b", "-a", "a-", ".a", "a.", "a--b", "a..b", "a.git",
                           "a.GIT", "\xc3\xa9", "a\nb", "../x"})
    EXPECT_THROW(make(ann_, name), ArgumentError) << name;
  EXPECT_THROW(make(ann_, std::string(93, 'a')), ArgumentError);
  EXPECT_NO_THROW(make(ann_, std::string(92, 'a')));
}

TEST_F(ReposTest, AFailedCreationLeavesNothing) {
  EXPECT_ANY_THROW(repos.create(ann_, "model", *ann_.user, "net", false, {},
                                {{FileChange::Kind::add, "../escape", "x"}}));
  EXPECT_FALSE(repos.find("model", "ann", "net"));
  EXPECT_NO_THROW(make(ann_, "net"));
}

TEST_F(ReposTest, OnesBeingMadeAreNotSeenAndExpire) {
  database.write([&](Transaction& t) {
    t.run(
        "INSERT INTO repos (uid, type, owner, name, disabled, created_at, updated_at)"
        " VALUES ('x', 'model', ?, 'net', 2, 0, 0)",
        ann_.user->id);
  });
  EXPECT_FALSE(repos.find("model", "ann", "net", true));
  EXPECT_TRUE(names(ann_).empty());
  EXPECT_NO_THROW(make(ann_, "net"));
}

TEST_F(ReposTest, MovedOnesAreFoundUnderTheOldName) {
  Repo repo = make(ann_, "net");
  repos.move(repo, *bob_.user, "better");
  EXPECT_FALSE(repos.find("model", "ann", "net"));
  EXPECT_EQ(repos.find("model", "ann", "net", true)->full_name(), "bob/better");
  EXPECT_EQ(repos.find("model", "BOB", "Better", true)->full_name(), "bob/better");
  EXPECT_FALSE(repos.find("model", "BOB", "Better"));
  Repo second = make(ann_, "net");  // the name is free again, and is its own
  EXPECT_EQ(repos.find("model", "ann", "net", true)->access.id, second.access.id);
  EXPECT_THROW(repos.move(second, *bob_.user, "better"), ConflictError);
  repos.move(second, *ann_.user, "Net");  // other case only
  EXPECT_TRUE(repos.find("model", "ann", "Net"));
}

TEST_F(ReposTest, WebhooksMoveWithTheirRepository) {
  Repo repo = make(ann_, "net");
  database.write([&](Transaction& t) {
    for (auto of : {std::optional<int64_t>(repo.access.id), std::optional<int64_t>()})
      t.run("INSERT INTO webhooks (owner, repo, url, secret, events) VALUES (?, ?, 'u', '', '[]')",
            ann_.user->id, of);
  });
  repos.move(repo, *bob_.user, "net");
  database.read([&](Transaction& t) {
    auto hooks = t.query("SELECT owner FROM webhooks ORDER BY id");
    EXPECT_EQ(hooks[0].integer(0), bob_.user->id);
    EXPECT_EQ(hooks[1].integer(0), ann_.user->id) << "of all her repositories";
  });
}

TEST_F(ReposTest, Deleted) {
  Repo repo = make(ann_, "net");
  commit(ann_, repo, {{"a", "1"}});
  discussions_.open(ann_, repo, "hello", "");
  repos.remove(repo);
  EXPECT_FALSE(repos.find("model", "ann", "net"));
  Repo again = make(ann_, "net");
  EXPECT_EQ(read(again, "a"), "(absent)");
}

TEST_F(ReposTest, ListsShowWhatOneMaySee) {
  make(ann_, "open");
  make(ann_, "hidden", true);
  make(bob_, "other");
  EXPECT_THAT(names(nobody_), UnorderedElementsAre("ann/open", "bob/other"));
  EXPECT_THAT(names(bob_), UnorderedElementsAre("ann/open", "bob/other"));
  EXPECT_THAT(names(ann_), UnorderedElementsAre("ann/open", "ann/hidden", "bob/other"));
  Caller closed = nobody_;
  closed.anonymous_role = Role::none;
  EXPECT_TRUE(names(closed).empty());
  ListQuery query;
  query.author = "ann";
  EXPECT_THAT(names(nobody_, query), ElementsAre("ann/open"));
}

TEST_F(ReposTest, Search) {
  make(ann_, "resnet50d.ra2_in1k");
  make(bob_, "bert");
  auto found = [&](const std::string& text) {
    ListQuery query;
    query.search = text;
    return names(nobody_, query);
  };
  EXPECT_THAT(found("ResNet"), ElementsAre("ann/resnet50d.ra2_in1k"));
  EXPECT_THAT(found("net50d.ra2"), ElementsAre("ann/resnet50d.ra2_in1k"));
  EXPECT_THAT(found("ann/res"), ElementsAre("ann/resnet50d.ra2_in1k"));
  EXPECT_THAT(found("be"), ElementsAre("bob/bert"));
  EXPECT_THAT(found("bert bob"), ElementsAre("bob/bert"));
  for (const char* odd : {"\"", "a\"b", "* OR *", "NEAR(a b)", "name:", "%", "\xff\xfe\xfd", "'"})
    EXPECT_TRUE(found(odd).empty()) << odd;
}

TEST_F(ReposTest, PagesInEveryOrder) {
  std::vector<Repo> made;
  for (int i = 0; i < 7; ++i) made.push_back(make(ann_, "m" + std::to_string(i)));
  database.write([&](Transaction& t) {
    for (int64_t i = 0; i < 7; ++i)
      t.run("UPDATE repos SET downloads = ? WHERE id = ?", i / 2, made[size_t(i)].access.id);
    t.run("INSERT INTO likes (repo, user, at) VALUES (?, ?, ?)", made[3].access.id, bob_.user->id,
          now_ms());
  });
  for (std::string sort : {"downloads", "likes", "lastModified", "createdAt", "trendingScore"}) {
    for (bool descending : {true, false}) {
      ListQuery query;
      query.sort = sort;
      query.descending = descending;
      auto all = names(nobody_, query);
      ASSERT_EQ(all.size(), 7u);
      query.limit = 2;
      std::vector<std::string> paged;
      do {
        std::string next;
        for (const auto& repo : repos.list(nobody_, query, next)) paged.push_back(repo.full_name());
        query.cursor = next;
      } while (!query.cursor.empty());
      EXPECT_EQ(paged, all) << sort;
    }
  }
  EXPECT_EQ(names(nobody_)[0], "ann/m3");  // trending
  ListQuery bad;
  bad.cursor = "1; DROP TABLE repos";
  EXPECT_THROW(names(nobody_, bad), ArgumentError);
  bad.cursor = "";
  bad.sort = "name; --";
  EXPECT_THROW(names(nobody_, bad), ArgumentError);
}

TEST_F(ReposTest, MetadataFollowMain) {
  Repo repo = make(ann_, "net");
  commit(ann_, repo,
         {{"README.md",
           "---\nlicense: mit\nlanguage: no\ntags: [vision]\n"
           "pipeline_tag: image-classification\n---\n"},
          {"config.json", R"({"architectures": ["ResNetForImageClassification"],
                              "model_type": "resnet", "secret": 1})"},
          {"tokenizer_config.json", R"({"eos_token": {"content": "</s>"}, "x": 1})"}});
  Repo read = now(repo);
  EXPECT_EQ(read.pipeline_tag, "image-classification");
  EXPECT_EQ(read.library_name, "transformers");
  EXPECT_EQ(*read.card.find("license"), Json("mit"));
  EXPECT_EQ(*read.config.find("model_type"), Json("resnet"));
  EXPECT_EQ(read.config.find("secret"), nullptr);
  EXPECT_EQ(*read.config.find("tokenizer_config")->find("eos_token"), Json("</s>"));
  EXPECT_EQ(read.tags, Json(Json::Array{"transformers", "resnet", "image-classification", "vision",
                                        "no", "license:mit"}));
  ListQuery query;
  query.filters = {"vision", "license:mit"};
  EXPECT_THAT(names(nobody_, query), ElementsAre("ann/net"));
  query.filters = {"vision", "license:gpl"};
  EXPECT_TRUE(names(nobody_, query).empty());

  std::string long_text = "---\nt: &t " + std::string(900'000, 'x') + "\nl: [*t";
  for (int i = 0; i < 25; ++i) long_text += ", *t";
  for (auto& [card, config] :
       std::vector<std::pair<std::string, std::string>>{{"---\na: [\n---\n", "{"},
                                                        {"---\nno: {y:\xcf"
                                                         "1.5e3}\n---\n",
                                                         "{\"model_type\": \"\xcf\"}"},
                                                        {long_text + "]\n---\n", "[]"}}) {
    commit(ann_, repo, {{"README.md", card}, {"config.json", config}});
    read = now(repo);
    EXPECT_TRUE(read.card.is_null()) << card.substr(0, 40);
    EXPECT_TRUE(read.config.is_null()) << config.substr(0, 40);
  }
}

TEST_F(ReposTest, ParametersAreCountedFromHeaders) {
  Repo repo = make(ann_, "net");
  std::string header = R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                       R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string file(8, '\0');
  file[0] = char(header.size());
  file += header + std::string(32, 'x');
  commit(ann_, repo, {{"model.safetensors", file}});
  Json expected =
      Json::Object{{"parameters", Json::Object{{"F32", 6}, {"BF16", 4}}}, {"total", 10}};
  EXPECT_EQ(now(repo).weights, expected);
  ListQuery query;
  query.min_parameters = 10;
  EXPECT_EQ(names(nobody_, query).size(), 1u);
  query.min_parameters = 11;
  EXPECT_TRUE(names(nobody_, query).empty());

  file[6] = 1;  // a header of 2⁴⁸ bytes
  commit(ann_, repo, {{"model.safetensors", file}});
  EXPECT_TRUE(now(repo).weights.is_null());
}

TEST_F(ReposTest, AProcessThatDiedLeavesMetadataToBeRead) {
  Repo repo = make(ann_, "net");
  commit(ann_, repo, {{"README.md", "---\nlicense: mit\n---\n"}});
  Oid head = *git.resolve(repo.access.id, "HEAD");
  database.write([&](Transaction& t) {
    t.run("UPDATE repos SET card = NULL, tags = '[]' WHERE id = ?", repo.access.id);
    t.run("INSERT INTO settings (name, value) VALUES (?, ?)",
          "stale " + std::to_string(repo.access.id), head);
  });
  repos.refresh_stale();
  EXPECT_EQ(*now(repo).card.find("license"), Json("mit"));
  EXPECT_FALSE(database.read([](Transaction& t) {
    return t.one("SELECT 1 FROM settings WHERE name LIKE 'stale %'").has_value();
  }));
}

TEST_F(ReposTest, QuotaIsHeld) {
  Repo repo = make(ann_, "net");
  accounts.set_quota(ann_.user->id, now(repo).used_bytes + 5000);
  commit(ann_, repo, {{"a", "small"}});
  std::string noise = random_hex(40'000);
  Oid before = *git.resolve(repo.access.id, "HEAD");
  EXPECT_THROW(commit(ann_, repo, {{"b", noise}}), QuotaExceeded);
  EXPECT_EQ(*git.resolve(repo.access.id, "HEAD"), before);
  accounts.set_quota(ann_.user->id, std::nullopt);
  EXPECT_NO_THROW(commit(ann_, repo, {{"b", noise}}));
}

TEST_F(ReposTest, Gates) {
  Repo repo = make(ann_, "net");
  repos.set_gated(repo, "manual");
  repo = now(repo);
  EXPECT_EQ(repo.access.gated, "manual");
  EXPECT_FALSE(repos.access_granted(repo, bob_));
  database.write([&](Transaction& t) {
    t.run("INSERT INTO access_requests (repo, user, status, at) VALUES (?, ?, 'accepted', 0)",
          repo.access.id, bob_.user->id);
  });
  EXPECT_TRUE(repos.access_granted(repo, bob_));
  EXPECT_FALSE(repos.access_granted(repo, nobody_));
  EXPECT_THROW(repos.set_gated(repo, "maybe"), ArgumentError);
}

TEST_F(ReposTest, DownloadsAreCounted) {
  Repo repo = make(ann_, "net");
  {
    Repos other(database, accounts, git, content);
    for (int i = 0; i < 5; ++i) other.count_download(repo);
  }
  EXPECT_EQ(now(repo).downloads, 5);
}

// ---- discussions
// ------------------------------------------------------------------------------------

TEST_F(ReposTest, Discussions) {
  Repo repo = make(ann_, "net");
  Discussion d = discussions_.open(bob_, repo, "  Question ", "How?");
  EXPECT_EQ(d.num, 1);
  EXPECT_EQ(d.title, "Question");
  auto answer = discussions_.comment(ann_, repo, d, "So.");
  auto edited = discussions_.edit(repo, d, answer.id, "Like so.");
  EXPECT_EQ(*edited.data.find("latest")->find("raw"), Json("Like so."));
  EXPECT_EQ(*edited.data.find("edited"), Json(true));
  auto hidden = discussions_.hide(ann_, repo, d, answer.id);
  EXPECT_EQ(*hidden.data.find("latest")->find("raw"), Json(""));
  EXPECT_THROW(discussions_.edit(repo, d, answer.id, "again"), ConflictError);
  discussions_.rename(ann_, repo, d, "Answered");
  EXPECT_THROW(discussions_.set_status(ann_, repo, d, "merged"), ArgumentError);
  discussions_.set_status(ann_, repo, d, "closed", "Thanks");
  d = *discussions_.find(repo, 1);
  EXPECT_EQ(d.title, "Answered");
  EXPECT_EQ(d.status, "closed");
  std::vector<std::string> types;
  for (const auto& event : discussions_.events(repo, 1)) types.push_back(event.type);
  EXPECT_THAT(types, ElementsAre("comment", "comment", "title-change", "comment", "status-change"));
  EXPECT_THROW(discussions_.open(bob_, repo, " ", ""), ArgumentError);
  EXPECT_THROW(discussions_.edit(repo, d, "nonsense", "x"), NotFoundError);
  EXPECT_THROW(discussions_.merge(ann_, repo, d), ArgumentError);
}

TEST_F(ReposTest, AuthorsAreKnownByNumber) {
  Repo repo = make(ann_, "net");
  Discussion pr = discussions_.open_pull_request(bob_, repo, "Better", "Look", true,
                                                 {{}, *git.resolve(repo.access.id, "HEAD"), {}});
  int64_t first_bob = bob_.user->id;
  EXPECT_EQ(pr.author_id, first_bob);
  EXPECT_EQ(discussions_.events(repo, 1)[0].author_id, first_bob);
  accounts.remove(first_bob);
  bob_ = caller("bob");
  pr = *discussions_.find(repo, 1);
  EXPECT_EQ(pr.author, "bob");
  EXPECT_FALSE(pr.author_id);
  EXPECT_FALSE(discussions_.events(repo, 1)[0].author_id);
}

TEST_F(ReposTest, APullRequestIsMerged) {
  Repo repo = make(ann_, "net");
  commit(ann_, repo, {{"README.md", "old\n"}, {"other", "1\n"}});
  Oid main = *git.resolve(repo.access.id, "HEAD");
  Discussion pr = discussions_.open_pull_request(bob_, repo, "Better", "", true, {{}, main, {}});
  EXPECT_EQ(pr.status, "draft");
  EXPECT_EQ(git.resolve(repo.access.id, "refs/pr/1"), main);
  commit(bob_, repo, {{"README.md", "new\n"}}, "refs/pr/1");
  commit(ann_, repo, {{"other", "2\n"}});
  EXPECT_THROW(discussions_.merge(ann_, repo, pr), ConflictError);  // a draft
  discussions_.set_status(bob_, repo, pr, "open");
  pr = *discussions_.find(repo, 1);
  EXPECT_TRUE(discussions_.conflicts(repo, pr).empty());
  EXPECT_THAT(discussions_.diff(repo, pr), testing::HasSubstr("+new"));
  EXPECT_THAT(discussions_.diff(repo, pr), testing::Not(testing::HasSubstr("other")));
  Oid merged = discussions_.merge(ann_, repo, pr, "Thanks");
  EXPECT_EQ(read(repo, "README.md"), "new\n");
  EXPECT_EQ(read(repo, "other"), "2\n");
  EXPECT_EQ(*git.resolve(repo.access.id, "HEAD"), merged);
  pr = *discussions_.find(repo, 1);
  EXPECT_EQ(pr.status, "merged");
  EXPECT_EQ(pr.merge_commit, merged);
  EXPECT_THAT(discussions_.diff(repo, pr), testing::HasSubstr("+new"));
  EXPECT_THROW(discussions_.merge(ann_, repo, pr), ConflictError);
  EXPECT_THROW(discussions_.set_status(ann_, repo, pr, "open"), ConflictError);
  std::vector<std::string> types;
  for (const auto& event : discussions_.events(repo, 1)) types.push_back(event.type);
  EXPECT_THAT(types, ElementsAre("comment", "commit", "status-change", "comment", "status-change"));
}

TEST_F(ReposTest, ConflictsAreNamed) {
  Repo repo = make(ann_, "net");
  commit(ann_, repo, {{"README.md", "base\n"}});
  Oid main = *git.resolve(repo.access.id, "HEAD");
  Discussion pr = discussions_.open_pull_request(bob_, repo, "Mine", "", false, {{}, main, {}});
  EXPECT_THROW(discussions_.merge(ann_, repo, pr), ArgumentError);  // nothing in it
  commit(bob_, repo, {{"README.md", "mine\n"}}, "refs/pr/1");
  commit(ann_, repo, {{"README.md", "yours\n"}});
  EXPECT_THAT(discussions_.conflicts(repo, pr), ElementsAre("README.md"));
  try {
    discussions_.merge(ann_, repo, pr);
    FAIL();
  } catch (const ConflictError& e) {
    EXPECT_STREQ(e.what(), "pull request 1: conflicts in README.md");
  }
  EXPECT_EQ(read(repo, "README.md"), "yours\n");
}

TEST_F(ReposTest, NumbersAreTakenOnce) {
  Repo repo = make(ann_, "net");
  Oid main = *git.resolve(repo.access.id, "HEAD");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int k = 0; k < 5; ++k)
        discussions_.open_pull_request(bob_, repo, "t", "", true, {{}, main, {}});
    });
  for (auto& thread : threads) thread.join();
  int64_t total = 0;
  DiscussionQuery query;
  query.limit = 5;
  EXPECT_EQ(discussions_.list(repo, query, total).front().num, 20);
  EXPECT_EQ(total, 20);
  query.pull_requests = false;
  EXPECT_TRUE(discussions_.list(repo, query, total).empty());
  EXPECT_EQ(total, 0);
}

}  // namespace
}  // namespace pretrained::server
