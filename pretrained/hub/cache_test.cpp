#include "pretrained/hub/cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <thread>

#include "pretrained/base/error.h"
#include "pretrained/hub/blob_hash.h"
#include "pretrained/hub/download.h"
#include "pretrained/hub/tree_cache.h"

namespace pretrained::hub {
namespace {
namespace fs = std::filesystem;

const Repo kRepo{"org/net"};
const std::string kCommit(40, 'a'), kOther(40, 'b');
// git hash-object of "hello\n", and SHA-256 of "hello\n".
const std::string kBlobId = "ce013625030ba8dba906f756967f9e9ca394464a";
const std::string kSha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

class CacheTest : public testing::Test {
 protected:
  CacheTest() {
    char name[] = "/tmp/pretrained-cache-XXXXXX";
    folder = mkdtemp(name);
    cache.emplace(folder / "hub");
    cache->prepare(kRepo);
  }
  ~CacheTest() override { fs::remove_all(folder); }

  void put(const fs::path& file, const std::string& text) {
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string read(const fs::path& file) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  fs::path add(const std::string& commit, const std::string& path, const std::string& etag,
               const std::string& text) {
    put(cache->blob(kRepo, etag), text);
    return cache->link(kRepo, commit, path, etag);
  }
  fs::path repo() { return cache->repo_folder(kRepo); }

  fs::path folder;
  std::optional<Cache> cache;
};

TEST_F(CacheTest, IsLaidOutAsPythonDoes) {
  EXPECT_EQ(repo(), folder / "hub/models--org--net");
  EXPECT_EQ(cache->repo_folder({"org/set", RepoType::dataset}), folder / "hub/datasets--org--set");
  EXPECT_TRUE(read(folder / "hub/CACHEDIR.TAG").starts_with("Signature: 8a477f597d28d172789f068"));
  EXPECT_EQ(read(folder / "hub/CACHEDIR.TAG").size(), 191u);
  auto file = add(kCommit, "sub/dir/config.json", kBlobId, "hello\n");
  EXPECT_EQ(file, repo() / "snapshots" / kCommit / "sub/dir/config.json");
  EXPECT_EQ(fs::read_symlink(file), fs::path("../../../../blobs/" + kBlobId));
  EXPECT_EQ(read(file), "hello\n");
  EXPECT_EQ(cache->find(kRepo, kCommit, "sub/dir/config.json"), file);
  EXPECT_EQ(cache->find(kRepo, kCommit, "sub/dir"), std::nullopt);
  EXPECT_EQ(cache->find(kRepo, kOther, "sub/dir/config.json"), std::nullopt);
}

TEST_F(CacheTest, ReferencesHaveNoNewlineAndMayHaveSlashes) {
  cache->write_ref(kRepo, "refs/pr/1", kCommit);
  EXPECT_EQ(read(repo() / "refs/refs/pr/1"), kCommit);
  EXPECT_EQ(cache->read_ref(kRepo, "refs/pr/1"), kCommit);
  EXPECT_EQ(cache->read_ref(kRepo, "main"), std::nullopt);
  EXPECT_EQ(cache->read_ref(kRepo, kOther), kOther);  // a commit is itself
  cache->write_ref(kRepo, kOther, kOther);
  EXPECT_FALSE(fs::exists(repo() / "refs" / kOther));
  cache->write_ref(kRepo, "refs/pr/1", kOther);
  EXPECT_EQ(cache->read_ref(kRepo, "refs/pr/1"), kOther);
  EXPECT_EQ(std::distance(fs::directory_iterator(repo() / "refs/refs/pr"), {}), 1);
}

TEST_F(CacheTest, AbsentFilesAreRemembered) {
  EXPECT_FALSE(cache->known_absent(kRepo, kCommit, "a/b.json"));
  cache->mark_absent(kRepo, kCommit, "a/b.json");
  EXPECT_TRUE(cache->known_absent(kRepo, kCommit, "a/b.json"));
  EXPECT_FALSE(cache->known_absent(kRepo, kOther, "a/b.json"));
  EXPECT_EQ(fs::file_size(repo() / ".no_exist" / kCommit / "a/b.json"), 0u);
}

TEST_F(CacheTest, NamesThatLeadOutAreRefused) {
  for (std::string path : {"../x", "/abs", "a/../../x", "", "a\\b"}) {
    EXPECT_THROW(cache->find(kRepo, kCommit, path), FormatError) << path;
    EXPECT_THROW(cache->link(kRepo, kCommit, path, kBlobId), FormatError) << path;
    EXPECT_THROW(cache->mark_absent(kRepo, kCommit, path), FormatError) << path;
    EXPECT_THROW(cache->read_ref(kRepo, path), FormatError) << path;
    EXPECT_THROW(cache->write_ref(kRepo, path, kCommit), FormatError) << path;
  }
  for (std::string etag : {std::string(), std::string("../../x"), kBlobId + "0", kBlobId + "/",
                           std::string(40, 'A')}) {
    EXPECT_THROW(cache->blob(kRepo, etag), FormatError) << etag;
    EXPECT_THROW(cache->lock(kRepo, etag), FormatError) << etag;
  }
  EXPECT_THROW(cache->snapshot_folder(kRepo, "../" + kCommit.substr(3)), FormatError);
  for (std::string id : {"../x", "a/b/c", "/a", "a b", ""})
    EXPECT_THROW(cache->repo_folder({id}), ArgumentError) << id;
}

TEST_F(CacheTest, LinksThatLeadOutAreRefused) {
  put(folder / "secret", "s");
  fs::path snapshot = repo() / "snapshots" / kCommit;
  fs::create_directories(snapshot);
  fs::create_symlink(folder / "secret", snapshot / "absolute");
  fs::create_symlink("../../blobs/../../../secret", snapshot / "upwards");
  EXPECT_THROW(cache->find(kRepo, kCommit, "absolute"), FormatError);
  EXPECT_THROW(cache->find(kRepo, kCommit, "upwards"), FormatError);
  fs::create_directory_symlink(folder, snapshot / "folder");
  EXPECT_THROW(cache->find(kRepo, kCommit, "folder/secret"), FormatError);
  fs::create_symlink(folder / "secret", cache->blob(kRepo, kBlobId));
  fs::create_symlink("../../blobs/" + kBlobId, snapshot / "through");
  EXPECT_THROW(cache->find(kRepo, kCommit, "through"), FormatError);
  put(repo() / "refs/huge", std::string(100'000, 'a'));
  EXPECT_THROW(cache->read_ref(kRepo, "huge"), FormatError);
  put(repo() / "refs/odd", "../../etc");
  EXPECT_THROW(cache->read_ref(kRepo, "odd"), FormatError);
  fs::create_symlink(folder / "secret", repo() / "refs/away");
  EXPECT_THROW(cache->read_ref(kRepo, "away"), FormatError);
}

TEST_F(CacheTest, ReadsPythonsSharedStoreAndNeverRemovesFromIt) {
  std::string xet(64, 'c');
  fs::path shared = folder / "hub/blobs/cc" / xet;
  put(shared, "hello\n");
  fs::create_symlink("../../blobs/cc/" + xet, cache->blob(kRepo, kSha256));
  auto file = cache->link(kRepo, kCommit, "model.bin", kSha256);
  EXPECT_EQ(cache->find(kRepo, kCommit, "model.bin"), file);
  EXPECT_EQ(read(file), "hello\n");
  EXPECT_EQ(verify_cached(*cache, kRepo), std::vector<std::string>{});
  remove_cached(*cache, kRepo, kCommit);
  EXPECT_TRUE(fs::exists(shared));
  EXPECT_FALSE(fs::exists(fs::symlink_status(cache->blob(kRepo, kSha256))));
}

TEST_F(CacheTest, FilesWhereLinksAreSwitchedOff) {
  setenv("HF_HUB_DISABLE_SYMLINKS", "1", 1);
  auto file = add(kCommit, "config.json", kBlobId, "hello\n");
  cache->link(kRepo, kCommit, "config.json", kBlobId);  // again
  unsetenv("HF_HUB_DISABLE_SYMLINKS");
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(file)));
  EXPECT_EQ(read(file), "hello\n");
  EXPECT_EQ(cache->find(kRepo, kCommit, "config.json"), file);
  for (auto& entry : fs::directory_iterator(repo()))
    EXPECT_FALSE(entry.path().filename().string().starts_with(".pretrained")) << entry;
  EXPECT_EQ(scan_cache(*cache).at(0).size, 6u);
}

TEST_F(CacheTest, OneHoldsTheLockAndTheOtherWaits) {
  auto first = std::make_optional(cache->lock(kRepo, kBlobId));
  bool waited = false;
  std::thread other([&] {
    cache->lock(kRepo, kBlobId, [&] {
      waited = true;
      first.reset();
    });
  });
  other.join();
  EXPECT_TRUE(waited);
  fs::path file = folder / "hub/.locks/models--org--net" / (kBlobId + ".lock");
  EXPECT_TRUE(fs::exists(file));
  fs::remove(file);
  fs::create_symlink(folder / "elsewhere", file);
  EXPECT_THROW(cache->lock(kRepo, kBlobId), IoError);
  EXPECT_FALSE(fs::exists(folder / "elsewhere"));
}

TEST_F(CacheTest, WhatAKilledProcessOfTheSameNumberLeftIsInNobodysWay) {
  for (int i = 0; i < 100; ++i)
    fs::create_symlink(
        "nothing", repo() / (".pretrained-" + std::to_string(getpid()) + "-" + std::to_string(i)));
  EXPECT_EQ(read(add(kCommit, "a", kBlobId, "hello\n")), "hello\n");
  cache->write_ref(kRepo, "main", kCommit);
  EXPECT_EQ(cache->read_ref(kRepo, "main"), kCommit);
}

TEST_F(CacheTest, ScanTellsSizesReferencesAndProblems) {
  add(kCommit, "a", kBlobId, "hello\n");
  add(kCommit, "b", kBlobId, "hello\n");
  add(kOther, "a", kBlobId, "hello\n");
  add(kOther, "c", kSha256, "hello\n");
  cache->write_ref(kRepo, "main", kOther);
  cache->write_ref(kRepo, "v1", kOther);
  auto repos = scan_cache(*cache);
  ASSERT_EQ(repos.size(), 1u);
  EXPECT_EQ(repos[0].repo.id, "org/net");
  EXPECT_EQ(repos[0].size, 12u);
  ASSERT_EQ(repos[0].revisions.size(), 2u);
  EXPECT_EQ(repos[0].revisions[0].files, 2u);
  EXPECT_EQ(repos[0].revisions[0].size, 6u);
  EXPECT_EQ(repos[0].revisions[1].refs, (std::vector<std::string>{"main", "v1"}));
  EXPECT_GT(repos[0].revisions[1].last_modified, 0);
  EXPECT_TRUE(repos[0].problems.empty());

  cache->write_ref(kRepo, "gone", std::string(40, 'd'));
  fs::create_symlink("../../blobs/" + std::string(40, 'e'), repo() / "snapshots" / kOther / "d");
  auto problems = scan_cache(*cache).at(0).problems;
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_NE(problems[0].find("a link to nothing"), std::string::npos);
  EXPECT_NE(problems[1].find("is not in the cache"), std::string::npos);
}

TEST_F(CacheTest, RemovingARevisionKeepsWhatOthersUse) {
  add(kCommit, "a", kBlobId, "hello\n");
  add(kCommit, "b", kSha256, "hello\n");
  add(kOther, "a", kBlobId, "hello\n");
  cache->write_ref(kRepo, "main", kCommit);
  EXPECT_EQ(remove_cached(*cache, kRepo, kCommit), 6u);
  EXPECT_EQ(cache->read_ref(kRepo, "main"), std::nullopt);
  EXPECT_TRUE(cache->find(kRepo, kOther, "a"));
  EXPECT_FALSE(cache->has_blob(kRepo, kSha256));
  EXPECT_TRUE(scan_cache(*cache).at(0).problems.empty());
  EXPECT_THROW(remove_cached(*cache, kRepo, kCommit), NotFoundError);
  EXPECT_EQ(remove_cached(*cache, kRepo), 6u);
  EXPECT_TRUE(scan_cache(*cache).empty());
  EXPECT_THROW(remove_cached(*cache, kRepo), NotFoundError);
}

TEST_F(CacheTest, ATagGoesAloneWhereABranchNamesItsCommitToo) {
  add(kCommit, "a", kBlobId, "hello\n");
  cache->write_ref(kRepo, "main", kCommit);
  cache->write_ref(kRepo, "v1", kCommit);
  EXPECT_EQ(remove_cached(*cache, kRepo, "v1"), 0u);
  EXPECT_EQ(cache->read_ref(kRepo, "v1"), std::nullopt);
  EXPECT_EQ(cache->read_ref(kRepo, "main"), kCommit);
  EXPECT_TRUE(cache->find(kRepo, kCommit, "a"));
  EXPECT_EQ(remove_cached(*cache, kRepo, "main"), 6u);
  EXPECT_TRUE(scan_cache(*cache).empty());
}

TEST_F(CacheTest, RemovingTheLastRevisionRemovesTheRepository) {
  add(kCommit, "a", kBlobId, "hello\n");
  cache->write_ref(kRepo, "main", kCommit);
  EXPECT_EQ(remove_cached(*cache, kRepo, kCommit), 6u);
  EXPECT_TRUE(scan_cache(*cache).empty());
}

TEST_F(CacheTest, NothingIsRemovedBehindALink) {
  add(kCommit, "a", kBlobId, "hello\n");
  cache->write_ref(kRepo, "main", kCommit);
  put(folder / "elsewhere/commits" / kCommit / "letter", "dear");
  put(folder / "elsewhere/names/main", kCommit);
  const std::map<std::string, std::string> links = {
      {"snapshots", "commits"}, {".no_exist", "commits"}, {"refs", "names"}, {"blobs", "names"}};
  for (auto& [name, target] : links) {
    fs::path part = repo() / name, aside = repo() / "aside";
    bool there = fs::exists(part);
    if (there) fs::rename(part, aside);
    fs::create_directory_symlink(folder / "elsewhere" / target, part);
    EXPECT_THROW(remove_cached(*cache, kRepo, kCommit), FormatError) << name;
    fs::remove(part);
    if (there) fs::rename(aside, part);
  }
  EXPECT_TRUE(fs::exists(folder / "elsewhere/commits" / kCommit / "letter"));
  EXPECT_TRUE(fs::exists(folder / "elsewhere/names/main"));
  fs::create_directory_symlink(folder / "elsewhere", repo() / "more");
  remove_cached(*cache, kRepo);  // links go, not what they lead to
  EXPECT_FALSE(fs::exists(repo()));
  EXPECT_TRUE(fs::exists(folder / "elsewhere/names/main"));
}

TEST_F(CacheTest, FoldersOfOthersAreNoRepositories) {
  add(kCommit, "a", kBlobId, "hello\n");
  for (auto* name :
       {"models--", "models--a b", "models--org--net~", "models--a..b", "datasets--\x1b"})
    fs::create_directory(folder / "hub" / name);
  auto repos = scan_cache(*cache);
  ASSERT_EQ(repos.size(), 1u);
  EXPECT_EQ(repos[0].repo.id, "org/net");
}

TEST_F(CacheTest, VerifyFindsChangedBytes) {
  add(kCommit, "a", kBlobId, "hello\n");
  add(kCommit, "b", kSha256, "hello\n");
  EXPECT_EQ(verify_cached(*cache, kRepo), std::vector<std::string>{});
  put(cache->blob(kRepo, kSha256), "hellO\n");
  auto problems = verify_cached(*cache, kRepo);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_NE(problems[0].find(kSha256 + ": its bytes have the hash "), std::string::npos);
}

TEST_F(CacheTest, TreesAreReadAsPythonWritesThem) {
  std::vector<RemoteFile> files{{"a/b.json", kBlobId, 6, "", ""},
                                {"model.bin", kBlobId, 6, kSha256, std::string(64, 'c')}};
  write_tree(repo(), kCommit, files);
  auto again = read_tree(repo(), kCommit);
  ASSERT_TRUE(again);
  ASSERT_EQ(again->size(), 2u);
  EXPECT_EQ(again->at(1).path, "model.bin");
  EXPECT_EQ(again->at(1).etag(), kSha256);
  EXPECT_EQ(again->at(0).etag(), kBlobId);
  EXPECT_FALSE(read_tree(repo(), kOther));
  auto with_file = [](const std::string& file) {
    return R"({"format_version": 1, "files": {)" + file + "}}";
  };
  for (std::string text : {std::string("{"), std::string(R"({"format_version": 2, "files": {}})"),
                           with_file(R"("../x": {"size": 1, "blob_id": ")" + kBlobId + "\"}"),
                           with_file(R"("x": {"size": -1, "blob_id": ")" + kBlobId + "\"}"),
                           with_file(R"("x": {"size": 1, "blob_id": "../y"})")}) {
    put(repo() / "trees" / (kOther + ".json"), text);
    EXPECT_FALSE(read_tree(repo(), kOther)) << text;
  }
}

TEST_F(CacheTest, TreesOfManyFilesAreReadAgain) {
  std::vector<RemoteFile> files;
  for (int i = 0; i < 200'000; ++i)
    files.push_back({"train/shard-" + std::to_string(100'000 + i % 100) + "/" +
                         std::to_string(1'000'000 + i) + ".safetensors",
                     kBlobId, 6, kSha256, std::string(64, 'c')});
  write_tree(repo(), kCommit, files);
  EXPECT_GT(fs::file_size(repo() / "trees" / (kCommit + ".json")), 16u << 20);
  auto again = read_tree(repo(), kCommit);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->size(), files.size());
}

TEST(Patterns, AreThoseOfFnmatch) {
  auto matches = [](const std::string& path, const std::string& pattern) {
    return matches_any(path, {pattern});
  };
  EXPECT_TRUE(matches("a/b/c.json", "*.json"));
  EXPECT_TRUE(matches("a/b/c.json", "a/"));
  EXPECT_FALSE(matches("ab/c.json", "a/"));
  EXPECT_TRUE(matches("model-00001.bin", "model-?????.bin"));
  EXPECT_TRUE(matches("x1", "x[0-9]"));
  EXPECT_FALSE(matches("xa", "x[0-9]"));
  EXPECT_TRUE(matches("xa", "x[!0-9]"));
  EXPECT_TRUE(matches("x]", "x[]]"));
  EXPECT_TRUE(matches("x[1", "x[1"));
  EXPECT_FALSE(matches("config.json", "Config.json"));
  EXPECT_FALSE(matches("config.json", "config"));
  EXPECT_TRUE(matches("", "*"));
  EXPECT_FALSE(matches(std::string(5000, 'a'), "*a*a*a*a*a*a*a*a*a*a*a*b"));
  EXPECT_FALSE(matches_any("x", {}));
}

TEST_F(CacheTest, WhatAKilledProcessLeftIsSweptAnHourLater) {
  put(repo() / ".pretrained-1-2", kCommit);
  put(repo() / ".pretrained-3-4", kCommit);
  fs::last_write_time(repo() / ".pretrained-1-2",
                      fs::file_time_type::clock::now() - std::chrono::hours(2));
  cache->prepare(kRepo);
  EXPECT_FALSE(fs::exists(repo() / ".pretrained-1-2"));
  EXPECT_TRUE(fs::exists(repo() / ".pretrained-3-4"));
}

}  // namespace
}  // namespace pretrained::hub
