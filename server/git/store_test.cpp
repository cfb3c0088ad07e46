#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include "server/git/child.h"
#include "server/git/rules.h"
#include "server/git/testing.h"

namespace pretrained::server {
namespace {
namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

FileChange remove_file(const std::string& path) {
  return {FileChange::Kind::remove_file, path, ""};
}
FileChange remove_folder(const std::string& path) {
  return {FileChange::Kind::remove_folder, path, ""};
}

std::vector<std::string> paths(GitView& view, const Oid& commit, const std::string& folder = "",
                               bool recursive = true, const std::string& after = "") {
  std::vector<std::string> list;
  view.list(commit, folder, recursive, after, [&](const TreeEntry& entry) {
    list.push_back(entry.path);
    return true;
  });
  return list;
}

class Store : public GitTest {};

TEST_F(Store, CommitsAreReadBack) {
  Oid first = commit("main", {put("README.md", "hello"), put("a/b/c.txt", "deep"),
                              put("a.txt", "1"), put("a/z.txt", "2")});
  Oid second = commit("main", {put("README.md", "hello again"), remove_folder("a/b")}, "Second\n");
  EXPECT_EQ(store.resolve(repo, "HEAD"), second);
  EXPECT_EQ(store.resolve(repo, "main"), second);
  EXPECT_EQ(store.resolve(repo, first), first);
  EXPECT_FALSE(store.resolve(repo, first.substr(0, 10)));
  EXPECT_FALSE(store.resolve(repo, std::string(40, '1')));
  EXPECT_FALSE(store.resolve(repo, "none"));
  auto view = store.open(repo);
  EXPECT_THAT(paths(*view, first),
              ElementsAre("README.md", "a.txt", "a", "a/b", "a/b/c.txt", "a/z.txt"));
  EXPECT_THAT(paths(*view, first, "", false), ElementsAre("README.md", "a.txt", "a"));
  EXPECT_THAT(paths(*view, first, "a", false), ElementsAre("a/b", "a/z.txt"));
  EXPECT_THAT(paths(*view, first, "", true, "a/b"), ElementsAre("a/b/c.txt", "a/z.txt"));
  EXPECT_THAT(paths(*view, first, "", true, "a.txt"),
              ElementsAre("a", "a/b", "a/b/c.txt", "a/z.txt"));
  EXPECT_THAT(paths(*view, first, "", true, "a/c"), ElementsAre("a/z.txt"));
  EXPECT_THAT(paths(*view, second), ElementsAre("README.md", "a.txt", "a", "a/z.txt"));
  auto readme = view->entry(second, "README.md");
  ASSERT_TRUE(readme);
  EXPECT_EQ(readme->size, 11u);
  EXPECT_EQ(view->read_blob(readme->oid), "hello again");
  EXPECT_THROW(view->read_blob(readme->oid, 5), FormatError);
  EXPECT_FALSE(view->entry(second, "a/b"));
  EXPECT_EQ(view->entry(second, "")->kind, TreeEntry::Kind::folder);
  auto info = view->commit(second);
  EXPECT_EQ(info->title, "Second");
  EXPECT_THAT(info->parents, ElementsAre(first));
  EXPECT_EQ(info->author.email, "ada@example.org");
  EXPECT_EQ(view->count_commits(second), 2u);
  EXPECT_TRUE(view->is_ancestor(first, second));
  EXPECT_FALSE(view->is_ancestor(second, first));
  EXPECT_EQ(view->merge_base(first, second), first);
  EXPECT_THAT(view->changed_paths(first, second), ElementsAre("README.md", "a/b/c.txt"));
  EXPECT_THAT(view->diff(first, second), HasSubstr("+hello again"));
  EXPECT_EQ(view->diff(kNoOid, second, 20).size(), 20u);
  EXPECT_THAT(store.fsck(repo), IsEmpty());
}

TEST_F(Store, ChangesFollowTheRules) {
  Oid head = commit("main", {put("a/b", "1"), put("c", "2")});
  auto write = [&](std::vector<FileChange> changes) {
    return store.write_commit(repo, {head}, change(std::move(changes)));
  };
  EXPECT_FALSE(write({}));
  EXPECT_FALSE(write({put("c", "2")}));
  EXPECT_FALSE(write({remove_folder("a"), put("a/b", "1")}));
  EXPECT_THROW(write({remove_file("none")}), NotFoundError);
  EXPECT_THROW(write({remove_file("a")}), NotFoundError);
  EXPECT_THROW(write({remove_folder("c")}), NotFoundError);
  EXPECT_THROW(write({put("a", "file")}), FormatError);
  EXPECT_THROW(write({put("c/d", "folder")}), FormatError);
  EXPECT_TRUE(write({remove_file("c"), put("c/d", "folder")}));
  EXPECT_TRUE(write({remove_folder("a"), put("a", "file")}));
  for (std::string path :
       {"", "/a", "a/", "a//b", "../a", "a/./b", ".git/x", "A/.GIT", "git~1", ".git. .", ".git:x",
        "x\\.git", ".g\xe2\x80\x8cit", ".gitmodules", "GITMOD~1"})
    EXPECT_THROW(write({put(path, "x")}), FormatError) << path;
  EXPECT_THROW(write({put(std::string("a\0b", 3), "x")}), FormatError);
  EXPECT_THROW(write({put(".gitattributes", std::string(2048, 'x'))}), FormatError);
  auto odd = store.write_commit(repo, {head},
                                {{put(".gitignore", "x"), put("git~2", "y"), put("\xff\xfe", "z")},
                                 "",
                                 "",
                                 {"<>\n", "a\nb>"}});
  store.publish(repo, {*odd}, {{"refs/heads/main", head, odd->commit}});
  EXPECT_THAT(store.fsck(repo), IsEmpty());
}

// Our rule for names is git's: whatever we let pass, fsck lets pass.
TEST_F(Store, PathRulesAgreeWithFsck) {
  std::mt19937 random(7);
  std::vector<std::string> pieces = {".git",         "git", "~1", ".", " ", ":",
                                     "\\",           "G",   "I",  "t", "x", "\xe2\x80\x8c",
                                     "\xef\xbb\xbf", "~"};
  std::set<std::string> accepted;
  for (int i = 0; i < 3000; ++i) {
    std::string name;
    for (int n = int(random() % 4) + 1; n > 0; --n) name += pieces[random() % pieces.size()];
    try {
      check_path(name);
      check_git_file(name, "");
      accepted.insert(name);
    } catch (const FormatError&) {
    }
  }
  std::vector<FileChange> changes;
  for (auto& name : accepted) changes.push_back(put(name, "x"));
  ASSERT_GT(changes.size(), 200u);
  commit("main", changes);
  EXPECT_THAT(store.fsck(repo), IsEmpty());
}

TEST_F(Store, ReferencesMoveTogetherOrNotAtAll) {
  Oid first = commit("main", {put("a", "1")}), second = commit("main", {put("a", "2")});
  EXPECT_THROW(
      store.publish(repo, {},
                    {{"refs/heads/dev", kNoOid, first}, {"refs/heads/main", first, first}}),
      RefConflict);
  EXPECT_FALSE(store.resolve(repo, "dev"));
  bool told = false;
  store.publish(repo, {}, {{"refs/heads/dev", kNoOid, first}, {"refs/heads/main", "*", first}},
                [&](Transaction&) { told = true; });
  EXPECT_TRUE(told);
  EXPECT_EQ(store.resolve(repo, "main"), first);
  EXPECT_THROW(store.publish(repo, {}, {{"refs/heads/main", first, second}},
                             [](Transaction&) { throw ArgumentError("no"); }),
               ArgumentError);
  EXPECT_EQ(store.resolve(repo, "main"), first);
  EXPECT_THROW(store.publish(repo, {}, {{"refs/heads/dev/x", kNoOid, first}}), RefConflict);
  EXPECT_THROW(store.publish(repo, {}, {{"refs/heads", kNoOid, first}}), Error);
  store.publish(repo, {}, {{"refs/heads/dev", first, kNoOid}, {"refs/heads/dev/x", kNoOid, first}});
  EXPECT_THROW(store.publish(repo, {}, {{"refs/heads/dev", kNoOid, first}}), RefConflict);
  EXPECT_THROW(store.publish(repo, {}, {{"refs/heads/a..b", kNoOid, first}}), ArgumentError);
  EXPECT_THROW(store.publish(repo, {}, {{"refs/heads/n", kNoOid, std::string(40, '1')}}),
               ArgumentError);
}

TEST_F(Store, ARefusedPublishLeavesNoPack) {
  Oid head = commit("main", {put("a", "1")});
  auto files = [&] {
    size_t count = 0;
    blobs.each("packs", [&](const std::string&, uint64_t) { ++count; });
    return count;
  };
  size_t before = files();
  auto stored = store.write_commit(repo, {head}, change({put("a", "2")}));
  EXPECT_THROW(store.publish(repo, {*stored}, {{"refs/heads/main", kNoOid, stored->commit}}),
               RefConflict);
  EXPECT_EQ(files(), before);
}

TEST_F(Store, SquashTagAndMerge) {
  commit("main", {put("a", "1"), put("b", "1")});
  Oid base = *store.resolve(repo, "main");
  store.publish(repo, {}, {{"refs/heads/dev", kNoOid, base}});
  Oid ours = commit("main", {put("a", "2")}), theirs = commit("dev", {put("d/b", "2")});
  auto merge = store.write_merge(repo, ours, theirs, change({}, "Merge"));
  store.publish(repo, {merge}, {{"refs/heads/main", ours, merge.commit}});
  auto view = store.open(repo);
  EXPECT_THAT(paths(*view, merge.commit), ElementsAre("a", "b", "d", "d/b"));
  EXPECT_THAT(view->commit(merge.commit)->parents, ElementsAre(ours, theirs));

  Oid other = commit("dev", {put("a", "3")});
  EXPECT_THAT(store.merge_conflicts(repo, merge.commit, other), ElementsAre("a"));
  EXPECT_THROW(store.write_merge(repo, merge.commit, other, change({}, "Merge")), FormatError);

  auto squash = store.write_squash(repo, merge.commit, change({}, "Squashed"));
  store.publish(repo, {squash}, {{"refs/heads/main", merge.commit, squash.commit}});
  auto tag = store.write_tag(repo, squash.commit, "v1", "First", {"Ada", "a@b"});
  store.publish(repo, {tag}, {{"refs/tags/v1", kNoOid, tag.commit}});
  EXPECT_EQ(store.resolve(repo, "v1"), squash.commit);
  EXPECT_EQ(store.open(repo)->count_commits(squash.commit), 1u);
  EXPECT_THAT(store.fsck(repo), IsEmpty());
}

TEST_F(Store, PointersOfNewHistoryOnly) {
  LfsPointer one{std::string(64, 'a'), 5}, two{std::string(64, 'b'), 7};
  EXPECT_EQ(LfsPointer::parse(one.text())->size, 5u);
  EXPECT_FALSE(LfsPointer::parse(one.text() + "more"));
  EXPECT_FALSE(LfsPointer::parse("version https://git-lfs.github.com/spec/v1\nsize 1\n"));
  Oid first = commit("main", {put("x.bin", one.text()), put("t", "text")});
  Oid second = commit("main", {put("d/y.bin", two.text())});
  auto view = store.open(repo);
  auto all = view->pointers({second}, {}), fresh = view->pointers({second}, {first});
  EXPECT_EQ(all.size(), 2u);
  ASSERT_EQ(fresh.size(), 1u);
  EXPECT_EQ(fresh[0].sha256, two.sha256);
}

TEST_F(Store, RepackKeepsEverythingAndDropsTheUnreachable) {
  Oid lost = commit("main", {put("f", "lost")});
  for (int i = 0; i < 40; ++i) commit("main", {put("f", std::to_string(i))});
  EXPECT_EQ(store.pack_count(repo), 41);
  auto view = store.open(repo);  // keeps reading what it opened
  EXPECT_TRUE(store.repack(repo, false));
  EXPECT_EQ(store.pack_count(repo), 1);
  EXPECT_FALSE(store.repack(repo, false));
  EXPECT_EQ(view->count_commits(*store.resolve(repo, "main")), 41u);
  EXPECT_EQ(store.resolve(repo, lost), lost);

  Oid head = *store.resolve(repo, "main");
  auto stale = store.write_commit(repo, {head}, change({put("f", "stale")}));
  auto squash = store.write_squash(repo, head, change({}, "Squashed"));
  store.publish(repo, {squash}, {{"refs/heads/main", head, squash.commit}});
  EXPECT_TRUE(store.repack(repo, true));
  EXPECT_FALSE(store.resolve(repo, lost));
  EXPECT_EQ(store.resolve(repo, "main"), squash.commit);
  // It was built on objects that are gone.
  EXPECT_THROW(store.publish(repo, {*stale}, {{"refs/heads/x", kNoOid, stale->commit}}),
               RefConflict);
  size_t files = 0;
  blobs.each("packs", [&](const std::string&, uint64_t) { ++files; });
  EXPECT_EQ(files, 2u);
  EXPECT_THAT(store.fsck(repo), IsEmpty());
}

TEST_F(Store, FsckFindsDamage) {
  commit("main", {put("a", std::string(10000, 'x') + "unique")});
  std::string name = store.blob_names(repo)[1];
  fs::path file = blobs.local_path(name);
  fs::permissions(file, fs::perms::owner_all);
  std::string bytes = read_file(file);
  bytes[bytes.size() / 2] = char(bytes[bytes.size() / 2] ^ 1);
  std::ofstream(file, std::ios::binary) << bytes;
  EXPECT_FALSE(store.fsck(repo).empty());
  blobs.remove(name);
  EXPECT_FALSE(store.fsck(repo).empty());
}

// 16 writers on one branch, each with its own file, while the cache disappears and packs are rolled
// up: every acknowledged commit is in the history.
TEST_F(Store, ManyWritersLoseNothing) {
  commit("main", {put("README.md", "start")});
  constexpr int kWriters = 16, kCommits = 6;
  std::atomic<bool> stop = false;
  std::thread vandal([&] {
    std::mt19937 random(3);
    while (!stop) {
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 40));
      std::error_code ignored;
      if (random() % 2)
        fs::remove_all(folder / "cache" / std::to_string(repo), ignored);
      else
        store.drop_cache(repo);
    }
  });
  std::thread packer([&] {
    while (!stop) {
      try {
        store.repack(repo, false);
      } catch (const Error&) {  // its cache was deleted
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  });
  std::atomic<int> conflicts = 0, failures = 0;
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w)
    writers.emplace_back([&, w] {
      for (int i = 0; i < kCommits;) try {
          Oid head = *store.resolve(repo, "main");
          std::string path = "w" + std::to_string(w) + "/" + std::to_string(i);
          auto stored = store.write_commit(repo, {head}, change({put(path, path)}));
          store.publish(repo, {*stored}, {{"refs/heads/main", head, stored->commit}});
          ++i;
        } catch (const RefConflict&) {
          ++conflicts;
        } catch (const Error& error) {
          if (++failures > 200) {
            ADD_FAILURE() << error.what();
            return;
          }
        }
    });
  for (auto& writer : writers) writer.join();
  stop = true;
  vandal.join();
  packer.join();
  auto view = store.open(repo);
  Oid head = *store.resolve(repo, "main");
  EXPECT_EQ(view->count_commits(head), uint64_t(kWriters * kCommits + 1));
  for (int w = 0; w < kWriters; ++w)
    for (int i = 0; i < kCommits; ++i)
      EXPECT_TRUE(view->entry(head, "w" + std::to_string(w) + "/" + std::to_string(i)));
  EXPECT_THAT(store.fsck(repo), IsEmpty());
  std::cout << conflicts << " conflicts, " << failures << " other retries\n";
}

// No database may be open across the fork, so each process opens its own.
TEST(Processes, ShareOneRepositoryAndItsCache) {
  TemporaryFolder folder;
  auto with_store = [&](const std::function<void(Database&, GitStore&)>& f) {
    Database database(folder / "hub.db");
    BlobStore blobs(folder / "data", 0);
    GitStore store(database, blobs, folder / "cache");
    f(database, store);
    return true;
  };
  auto write = [&](const std::string& file, int64_t repo, int commits, GitStore& store) {
    for (int i = 0; i < commits;) try {
        auto head = store.resolve(repo, "main");
        std::vector<Oid> parents;
        if (head) parents.push_back(*head);
        auto stored = store.write_commit(repo, parents, change({put(file, std::to_string(i))}));
        store.publish(repo, {*stored},
                      {{"refs/heads/main", head.value_or(kNoOid), stored->commit}});
        if (i == 5) store.repack(repo, false);
        ++i;
      } catch (const RefConflict&) {
      }
  };
  constexpr int64_t kRepo = 1;
  pid_t first = start_child([&] {
    return with_store([&](Database& database, GitStore& store) {
      EXPECT_EQ(add_repo(database, "model"), kRepo);
      write("start", kRepo, 1, store);
    });
  });
  ASSERT_EQ(wait_for(first), 0);
  std::vector<pid_t> children;
  for (std::string file : {"one", "two", "three"})
    children.push_back(start_child([&, file] {
      return with_store([&](Database&, GitStore& store) { write(file, kRepo, 10, store); });
    }));
  for (pid_t child : children) EXPECT_EQ(wait_for(child), 0);
  with_store([&](Database&, GitStore& store) {
    EXPECT_EQ(store.open(kRepo)->count_commits(*store.resolve(kRepo, "main")), 31u);
    EXPECT_THAT(store.fsck(kRepo), IsEmpty());
  });
}

// A random history with branches, merges, deleted and re-added paths, against git log.
TEST_F(Store, LastCommitsAreThoseOfGitLog) {
  std::mt19937 random(11);
  std::vector<std::string> branches = {"main"}, names = {"a", "b", "c"};
  commit("main", {put("a/a", "0"), put("b/c/x", "0")});
  auto view_check = [&](const std::string& branch, const fs::path& bare) {
    Oid head = *store.resolve(repo, branch);
    auto view = store.open(repo);
    std::vector<std::string> folders = {""};
    view->list(head, "", true, "", [&](const TreeEntry& entry) {
      if (entry.kind == TreeEntry::Kind::folder) folders.push_back(entry.path);
      return true;
    });
    for (auto& folder_path : folders) {
      auto found = view->last_commits(head, folder_path);
      EXPECT_EQ(found.size(), paths(*view, head, folder_path, false).size());
      for (auto& [name, info] : found) {
        std::string path = folder_path.empty() ? name : folder_path + "/" + name;
        EXPECT_EQ(info.oid,
                  git_ok(bare, {"log", "-1", "--first-parent", "--format=%H", head, "--", path}))
            << branch << " " << path;
      }
    }
  };
  for (int i = 0; i < 200; ++i) {
    std::string branch = branches[random() % branches.size()];
    Oid head = *store.resolve(repo, branch);
    if (i % 40 == 20) {
      branches.push_back("b" + std::to_string(i));
      store.publish(repo, {}, {{"refs/heads/" + branches.back(), kNoOid, head}});
    }
    std::vector<FileChange> changes;
    auto files = paths(*store.open(repo), head);
    std::string path;
    for (int depth = int(random() % 3); depth >= 0; --depth)
      path += names[random() % names.size()] + (depth ? "/" : std::to_string(random() % 4));
    changes.push_back(put(path, std::to_string(random() % 3)));
    if (random() % 3 == 0 && !files.empty()) {
      std::string victim = files[random() % files.size()];
      bool is_folder = store.open(repo)->entry(head, victim)->kind == TreeEntry::Kind::folder;
      changes.insert(changes.begin(), is_folder ? remove_folder(victim) : remove_file(victim));
    }
    auto stored = store.write_commit(repo, {head}, change(changes, std::to_string(i)));
    if (stored) store.publish(repo, {*stored}, {{"refs/heads/" + branch, head, stored->commit}});
    if (i % 50 == 30 && branches.size() > 1) {
      Oid theirs = *store.resolve(repo, branches.back()), ours = *store.resolve(repo, "main");
      if (store.merge_conflicts(repo, ours, theirs).empty()) {
        auto merge = store.write_merge(repo, ours, theirs, change({}, "Merge"));
        store.publish(repo, {merge}, {{"refs/heads/main", ours, merge.commit}});
      }
    }
    if (i % 25 == 0) store.open(repo)->last_commits(*store.resolve(repo, "main"), "");
  }
  GitServer server(store, repo);
  git_ok(folder.path(), {"clone", "-q", "--mirror", server.url, "bare"});
  for (auto& branch : branches) view_check(branch, folder / "bare");
  // And all at once from nothing.
  database.write([&](Transaction& t) {
    t.run("DELETE FROM path_changes");
    t.run("DELETE FROM chain_commits");
    t.run("DELETE FROM chains");
  });
  view_check("main", folder / "bare");
}

}  // namespace
}  // namespace pretrained::server
