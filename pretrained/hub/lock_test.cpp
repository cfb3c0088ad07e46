#include "pretrained/hub/lock.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/sha256.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;
using namespace pretrained::hub;

class Locks : public testing::Test {
 protected:
  void SetUp() override {
    root =
        fs::canonical(fs::temp_directory_path()) / ("pretrained-lock-" + std::to_string(getpid()));
    fs::remove_all(root);
    put("model/config.json", "{}");
    put("model/code/a.h", "int a;\n");
    put("model/model.safetensors", std::string(5000, 'w'));
    put("model/.git/index", "not part of it");
    folder = root / "model";
  }
  void TearDown() override { fs::remove_all(root); }
  void put(const std::string& path, const std::string& text) {
    fs::create_directories((root / path).parent_path());
    write_file_atomically(root / path, text);
  }
  fs::path root, folder;
};

TEST_F(Locks, HoldEveryFile) {
  Lock lock = lock_folder(folder);
  lock.repository = "org/model";
  lock.commit = std::string(40, 'a');
  Lock read = parse_lock(lock.text(), "lock");
  EXPECT_EQ(read.files, lock.files);
  EXPECT_EQ(read.repository + read.commit, lock.repository + lock.commit);
  ASSERT_EQ(lock.files.size(), 3u);
  EXPECT_EQ(lock.files["code/a.h"].sha256, sha256_hex("int a;\n"));
  EXPECT_EQ(lock.files["model.safetensors"].size, 5000u);
  put("model/pretrained.lock", lock.text());
  EXPECT_EQ(check_lock(folder, lock), std::vector<std::string>{});
}

TEST_F(Locks, EveryChangeIsNamed) {
  Lock lock = lock_folder(folder);
  auto problem = [&] {
    auto problems = check_lock(folder, lock);
    EXPECT_EQ(problems.size(), 1u);
    return problems.empty() ? "" : problems[0];
  };
  std::string weights(5000, 'w');
  weights[2500] ^= 1;
  put("model/model.safetensors", weights);
  EXPECT_NE(problem().find("model.safetensors: 5000 bytes of SHA-256"), std::string::npos);
  put("model/model.safetensors", std::string(5000, 'w'));
  put("model/code/b.h", "");
  EXPECT_NE(problem().find("code/b.h: not in the lock"), std::string::npos);
  fs::remove(folder / "code/b.h");
  fs::remove(folder / "config.json");
  EXPECT_NE(problem().find("config.json: No such file"), std::string::npos);
  fs::create_symlink("../outside", folder / "config.json");
  put("outside", "{}");
  EXPECT_NE(problem().find("leads out of the folder"), std::string::npos);
}

TEST_F(Locks, OfAnotherFormAreRefused) {
  std::string good = lock_folder(folder).text();
  auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  EXPECT_NO_THROW(parse_lock(good, "lock"));
  for (auto& text :
       {std::string(), std::string("[]"), std::string("{}"),
        with("\"version\": 1", "\"version\": 2"), with("\"version\"", "\"more\": 1, \"version\""),
        with("code/a.h", "../a.h"), with("code/a.h", "/a.h"), with("\"size\": 2", "\"size\": -2"),
        with("\"size\": 2", "\"size\": 1e99"), with(sha256_hex("{}"), "abc"),
        with("\"commit\": \"\"", "\"commit\": \"main\"")})
    EXPECT_THROW(parse_lock(text, "lock"), FormatError) << text;
}

TEST_F(Locks, SnapshotsAreHeldAgainstTheNamesOfTheirBlobs) {
  std::string commit(40, 'c'), etag = sha256_hex("weights");
  fs::path snapshot = root / "hub/models--o--m/snapshots" / commit;
  put("hub/models--o--m/blobs/" + etag, "weights");
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/" + etag, snapshot / "model.safetensors");
  EXPECT_EQ(check_snapshot(snapshot), std::vector<std::string>{});
  EXPECT_EQ(check_lock(snapshot, lock_folder(snapshot)), std::vector<std::string>{});
  put("hub/models--o--m/blobs/" + etag, "weighty");
  ASSERT_EQ(check_snapshot(snapshot).size(), 1u);
  EXPECT_NE(check_snapshot(snapshot)[0].find("its bytes hash to"), std::string::npos);
}

}  // namespace
