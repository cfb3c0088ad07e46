#include "server/storage/blobs.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "server/storage/database.h"
#include "server/storage/testing.h"

namespace pretrained::server {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;

std::string put(BlobStore& store, const std::string& name, const std::string& bytes) {
  StagedBlob blob = store.stage(bytes.size());
  blob.write(bytes);
  return store.publish(std::move(blob), name);
}

std::map<std::string, uint64_t> all(const BlobStore& store, const std::string& kind) {
  std::map<std::string, uint64_t> found;
  store.each(kind, [&](const std::string& name, uint64_t size) { found[name] = size; });
  return found;
}

size_t files_below(const fs::path& folder) {
  size_t files = 0;
  for (auto& entry : fs::recursive_directory_iterator(folder)) files += entry.is_regular_file();
  return files;
}

TEST(Blobs, PublishedBytesComeBackUnderANameNeverGivenTwice) {
  TemporaryFolder folder;
  BlobStore store(folder / "data", 0);
  std::string first = put(store, "xorbs/abcdef", "one"), second = put(store, "xorbs/abcdef", "two");
  EXPECT_NE(first, second);
  EXPECT_EQ(first.rfind("xorbs/ab/abcdef.", 0), 0u) << first;
  EXPECT_EQ(read_all(store.open(first), first, 100), "one");
  EXPECT_EQ(store.size(second), 3u);
  EXPECT_EQ(read_file(store.local_path(second)), "two");
  EXPECT_EQ(all(store, "xorbs"), (std::map<std::string, uint64_t>{{first, 3}, {second, 3}}));
  EXPECT_TRUE(all(store, "packs").empty());

  FileDescriptor reader = store.open(first);
  store.remove(first);
  store.remove(first);
  EXPECT_THROW(store.open(first), NotFoundError);
  EXPECT_THROW(store.size(first), NotFoundError);
  EXPECT_EQ(read_all(reader, first, 100), "one") << "an open blob stays readable";
  EXPECT_EQ(put(store, "packs/0123.pack", "").rfind("packs/01/0123.pack.", 0), 0u);
  struct stat status;
  ASSERT_EQ(stat((folder / "data").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  ASSERT_EQ(stat(store.local_path(second).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST(Blobs, AStagedBlobThatIsNotPublishedDisappears) {
  TemporaryFolder folder;
  BlobStore store(folder / "data", 0);
  {
    StagedBlob a = store.stage(), b = store.stage();
    a.write("x");
    EXPECT_EQ(a.size(), 1u);
    b = std::move(a);
    EXPECT_EQ(files_below(folder / "data/tmp"), 2u);
    EXPECT_EQ(b.size(), 1u);
  }
  EXPECT_EQ(files_below(folder / "data/tmp"), 0u);
}

TEST(Blobs, NoNameLeadsOut) {
  TemporaryFolder folder;
  BlobStore store(folder / "data", 0);
  std::string good = put(store, "xorbs/abcd", "x");
  std::string end = good.substr(good.find('.'));
  for (std::string name : {std::string(""),
                           std::string("/"),
                           std::string("xorbs"),
                           std::string("xorbs/ab/"),
                           "../../" + good,
                           good + "/x",
                           good + "x",
                           good + ".",
                           "xorbs/ab/../ab/abcd" + end,
                           "xorbs/cd/abcd" + end,
                           "Xorbs/ab/abcd" + end,
                           "xorbs/ab/ab/cd" + end,
                           "/etc/passwd" + end,
                           "xorbs//abcd" + end,
                           "xorbs/ab/abcd" + std::string("\0", 1) + end,
                           "./ab/abcd" + end,
                           "xorbs/..\0/.." + end,
                           std::string("xorbs/ab/abcd"),
                           "xorbs/ab/ab\n" + end,
                           "xorbs/ab/ab" + std::string(300, 'c') + end}) {
    EXPECT_THROW(store.open(name), FormatError) << name;
    EXPECT_THROW(store.size(name), FormatError) << name;
    EXPECT_THROW(store.remove(name), FormatError) << name;
    EXPECT_THROW(store.local_path(name), FormatError) << name;
  }
  for (std::string name : {"", "xorbs", "xorbs/", "xorbs/a", "xorbs/../x", "xorbs/zz", "xorbs/AB",
                           "xorbs/ab/cd", "x.y/ab", "/ab", "xorbs/ab\n", "xorbs/ab cd", "../abcd"})
    EXPECT_THROW(put(store, name, "x"), FormatError) << name;
  EXPECT_EQ(files_below(folder / "data/tmp"), 0u);
  EXPECT_THROW(all(store, ".."), ArgumentError);
  EXPECT_EQ(all(store, "xorbs").size(), 1u);
}

TEST(Blobs, TheReserveIsKept) {
  TemporaryFolder folder;
  EXPECT_THROW(BlobStore(folder / "a", UINT64_MAX).stage(), DiskFull);
  BlobStore store(folder / "b", 0);
  EXPECT_THROW(store.stage(UINT64_MAX), DiskFull);
  EXPECT_NO_THROW(store.stage(1));
}

TEST(Blobs, AFullDisk) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root for a small disk";
  TemporaryFolder folder;
  EXPECT_EQ(wait_for(start_child([&] {
              if (unshare(CLONE_NEWNS) != 0 || mount("", "/", "", MS_REC | MS_PRIVATE, "") != 0 ||
                  mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=4m") != 0)
                return true;  // not allowed here
              BlobStore store(folder / "data", 0), careful(folder / "data", 3 << 20);
              std::string kept = put(store, "xorbs/ab", std::string(1 << 20, 'x'));
              int refused = 0;
              try {
                StagedBlob blob = store.stage();
                for (;;) blob.write(std::string(100'000, 'x'));
              } catch (const DiskFull&) {
                refused++;
              }
              try {
                careful.stage(1 << 20);
              } catch (const DiskFull&) {
                refused++;
              }
              return refused == 2 && store.size(kept) == 1 << 20 &&
                     files_below(folder / "data/tmp") == 0;
            })),
            0);
}

TEST(Blobs, AFolderThatCannotBeWritten) {
  TemporaryFolder folder;
  chmod(folder.path().c_str(), 0555);
  EXPECT_EQ(wait_for(start_child([&] {
              if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) return false;
              try {
                BlobStore store(folder / "data", 0);
              } catch (const IoError& error) {
                return std::string(error.what()).find("data: Permission denied") !=
                       std::string::npos;
              }
              return false;
            })),
            0);
  chmod(folder.path().c_str(), 0755);
}

TEST(Blobs, OnlyOrphansOfTheDeadAreSwept) {
  TemporaryFolder folder;
  BlobStore store(folder / "data", 0);
  std::string mine = put(store, "xorbs/aa", "12"), named, orphan;
  {
    BlobStore other(folder / "data", 0);  // lives as another process does
    named = put(other, "xorbs/bb", "34");
    orphan = put(other, "xorbs/cc", "567");
    StagedBlob staged = other.stage();
    auto known = [&](const std::string& name) { return name == named; };
    EXPECT_EQ(store.sweep("xorbs", known), 0u);
    EXPECT_TRUE(fs::exists(staged.path()));
  }
  std::set<std::string> asked;
  EXPECT_EQ(store.sweep("xorbs",
                        [&](const std::string& name) {
                          asked.insert(name);
                          return name == named;
                        }),
            3u);
  EXPECT_EQ(asked, (std::set<std::string>{named, orphan}));
  EXPECT_EQ(all(store, "xorbs"), (std::map<std::string, uint64_t>{{mine, 2}, {named, 2}}));
  EXPECT_NO_THROW(store.stage());
}

TEST(Blobs, ScratchOfTheDeadIsSwept) {
  TemporaryFolder folder;
  BlobStore store(folder / "data", 0);
  EXPECT_EQ(wait_for(start_child([&] {
              auto* dies = new BlobStore(folder / "data", 0);
              std::ofstream(dies->scratch_folder() / "file") << "x";
              auto* staged = new StagedBlob(dies->stage());
              staged->write("x");
              return true;
            })),
            0);
  fs::path mine = store.scratch_folder();
  std::ofstream(mine / "file") << "x";
  EXPECT_EQ(files_below(folder / "data/tmp"), 3u);
  std::ofstream(folder / "data/leases/0123456789abcdef.new") << "";  // died between two steps
  store.sweep("xorbs", [](const std::string&) { return true; });
  EXPECT_EQ(files_below(folder / "data/tmp"), 1u);
  EXPECT_EQ(files_below(folder / "data/leases"), 1u);
  EXPECT_TRUE(fs::exists(mine / "file"));
}

// Children publish a blob, then write its row, then say so, and are killed at any moment, while we
// sweep. Every blob that was acknowledged is there whole; when all are dead, nothing else is.
TEST(Blobs, KillLosesNothingAcknowledgedAndSweepingIsSafe) {
  TemporaryFolder folder;
  BlobStore store(folder / "data", 0);
  std::set<std::string> acknowledged;
  for (int round = 0; round < 20; round++) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    pid_t child = start_child([&] {
      Database own(folder / "hub.db");
      BlobStore mine(folder / "data", 0);
      for (;;) {
        std::string name = put(mine, "xorbs/" + random_hex(8), std::string(20'000, 'x'));
        own.write([&](Transaction& t) { t.run("INSERT INTO settings VALUES (?, '')", name); });
        std::string line = name + "\n";
        if (write(ends[1], line.data(), line.size()) != ssize_t(line.size())) return false;
      }
    });
    close(ends[1]);
    Database database(folder / "hub.db");  // only now: no connection goes through a fork
    auto known = [&](const std::string& name) {
      return database.read([&](Transaction& t) {
        return t.one("SELECT 1 FROM settings WHERE name = ?", name).has_value();
      });
    };
    std::string text;
    char buffer[4096];
    if (round % 2)  // not before it is at work
      text.append(buffer, size_t(std::max<ssize_t>(read(ends[0], buffer, sizeof buffer), 0)));
    for (int i = 0; i <= round % 5; i++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(7));
      store.sweep("xorbs", known);
    }
    kill(child, SIGKILL);
    EXPECT_EQ(wait_for(child), 128 + SIGKILL);
    for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
      text.append(buffer, size_t(got));
    close(ends[0]);
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) acknowledged.insert(line);
    store.sweep("xorbs", known);
  }
  EXPECT_GT(acknowledged.size(), 0u);
  Database database(folder / "hub.db");
  auto found = all(store, "xorbs");
  for (auto& name : acknowledged) EXPECT_EQ(found[name], 20'000u) << name;
  database.read([&](Transaction& t) {
    auto rows = t.query("SELECT name FROM settings");
    EXPECT_EQ(rows.size(), found.size()) << "no orphans, no row without its blob";
    for (auto& row : rows) EXPECT_EQ(found.count(row.text(0)), 1u);
  });
  EXPECT_EQ(files_below(folder / "data/tmp"), 0u);
}

TEST(Blobs, ManyThreadsAndSweepers) {
  TemporaryFolder folder;
  BlobStore store(folder / "data", 0);
  std::vector<std::thread> threads;
  std::vector<std::string> names(8 * 25);
  for (size_t thread = 0; thread < 8; thread++)
    threads.emplace_back([&, thread] {
      for (size_t i = 0; i < 25; i++)
        names[thread * 25 + i] = put(store, "xorbs/" + random_hex(2), std::to_string(i));
    });
  threads.emplace_back([&] {
    for (int i = 0; i < 50; i++) {
      BlobStore brief(folder / "data", 0);
      brief.sweep("xorbs", [](const std::string&) { return false; });
    }
  });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(all(store, "xorbs").size(), names.size());
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
}

}  // namespace
}  // namespace pretrained::server
