#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "server/cas/cas_fixture.h"

namespace pretrained::server::testing {
namespace {

TEST_F(CasTest, CollectTakesWhatNobodyHoldsAndNothingElse) {
  Hub hub(folder);
  int64_t a = hub.add_repo("a"), b = hub.add_repo("b");
  std::string kept = random_bytes(2 << 20, 1), shared = random_bytes(1 << 20, 2);
  std::string dropped = random_bytes(1 << 20, 3) + shared;
  auto keep = hub.put(a, kept);
  hub.commit(a, keep.sha256);
  auto part = hub.put(b, shared);
  hub.commit(b, part.sha256);
  auto drop = hub.put(a, dropped);
  XetFile loose(random_bytes(1 << 20, 4));
  hub.content.put_xorb(a, loose.xorbs[0].first, reader(loose.xorbs[0].second));
  uint64_t before = hub.stored();

  auto freed = hub.content.collect();  // all under lease
  EXPECT_EQ(freed.objects + freed.files + freed.xorbs + freed.bytes, 0U);
  hub.expire();
  freed = hub.content.collect();
  EXPECT_EQ(freed.objects, 1U);
  EXPECT_EQ(freed.files, 1U);
  EXPECT_EQ(freed.bytes, before - hub.stored());
  EXPECT_FALSE(hub.content.object(a, drop.sha256));
  EXPECT_FALSE(hub.content.open_xorb(loose.xorbs[0].first));
  EXPECT_TRUE(hub.get(keep) == kept);
  EXPECT_TRUE(hub.get(part) == shared);
  expect_clean(hub);
  // And again after it is gone.
  EXPECT_TRUE(hub.get(hub.put(a, dropped)) == dropped);
  EXPECT_TRUE(put_xet(hub, a, loose));
  expect_clean(hub);

  hub.database.write([&](Transaction& t) { t.run("DELETE FROM repos"); });
  hub.expire();
  hub.content.collect();
  expect_empty(hub);
}

TEST_F(CasTest, KeepOnlyDropsWhatHistoryNoLongerNames) {
  Hub hub(folder);
  int64_t repo = hub.add_repo("a");
  auto one = hub.put(repo, "one"), two = hub.put(repo, "two"), three = hub.put(repo, "three");
  for (auto* object : {&one, &two}) hub.commit(repo, object->sha256);
  hub.expire();
  hub.commit(repo, three.sha256);  // after the list was made
  hub.content.keep_only(repo, {one.sha256});
  EXPECT_TRUE(hub.content.object(repo, one.sha256));
  EXPECT_FALSE(hub.content.object(repo, two.sha256));
  EXPECT_TRUE(hub.content.object(repo, three.sha256));
  hub.content.collect();
  EXPECT_EQ(hub.get(three), "three");
  expect_clean(hub);
}

TEST_F(CasTest, AliasesLiveAsLongAsTheirObject) {
  Hub hub(folder);
  int64_t repo = hub.add_repo("a");
  std::string bytes = random_bytes(100000, 1);
  auto object = hub.put(repo, bytes);
  hub.commit(repo, object.sha256);
  XetFile alias("");
  xet::XorbWriter writer;
  for (size_t at = 0; at < bytes.size(); at += 25000) {
    auto& chunk = writer.append(std::string_view(bytes).substr(at, 25000));
    alias.chunks.push_back({chunk.hash, chunk.size});
  }
  alias.close(writer);
  alias.file.hash = xet::file_hash(alias.chunks);
  alias.file.sha256 = object.sha256;
  put_xet(hub, repo, alias);
  hub.expire();
  hub.content.collect();
  EXPECT_TRUE(hub.content.reconstruct(repo, alias.file.hash, 0, 9));
  hub.content.keep_only(repo, {});
  hub.content.collect();
  expect_empty(hub);
}

TEST_F(CasTest, WhatClientsRememberIsKeptForThemAlone) {
  Hub hub(folder);
  int64_t gone = hub.add_repo("gone"), next = hub.add_repo("next");
  hub.database.write([](Transaction& t) {
    for (auto* name : {"ann", "bob"})
      t.run("INSERT INTO accounts (kind, name, created_at) VALUES ('user', ?, 0)", name);
  });
  auto id = [&](const std::string& name) {
    return hub.database.read([&](Transaction& t) {
      return t.one("SELECT id FROM accounts WHERE name = ?", name)->integer(0);
    });
  };
  XetFile file(random_bytes(1 << 20, 1));
  auto& [xorb, bytes] = file.xorbs[0];
  hub.content.put_xorb(gone, xorb, reader(bytes), id("ann"));
  hub.content.put_shard(gone, file.shard(), {}, {}, id("ann"));
  hub.database.write([&](Transaction& t) { t.run("DELETE FROM repos WHERE id = ?", gone); });
  hub.expire();
  hub.content.collect();
  EXPECT_THROW(hub.content.put_shard(next, file.shard(), {}, {}, id("bob")), FormatError);
  EXPECT_THROW(hub.content.put_shard(next, file.shard()), FormatError);
  EXPECT_TRUE(hub.content.put_shard(next, file.shard(), {}, {}, id("ann")));
  expect_clean(hub);

  hub.content.keep_only(next, {});
  hub.expire();
  hub.content.keep_only(next, {});
  hub.content.collect();
  EXPECT_TRUE(hub.content.open_xorb(xorb));
  hub.database.write(
      [](Transaction& t) { t.run("UPDATE xorb_uploaders SET remembered_until = 1"); });
  hub.content.collect();
  expect_empty(hub);

  hub.content.put_xorb(next, xorb, reader(bytes), id("ann"));
  hub.expire();
  hub.content.collect();
  EXPECT_TRUE(hub.content.open_xorb(xorb));
  hub.content.collect(true);
  expect_empty(hub);
}

// Uploads through both doors, some committed, some left to their lease, while a collector that
// respects nothing but leases and references runs all the time.
TEST_F(CasTest, CollectBesideUploadsLosesNothing) {
  Hub hub(folder, 2s);
  std::vector<int64_t> repos;
  for (int i = 0; i < 4; ++i) repos.push_back(hub.add_repo("r" + std::to_string(i)));
  std::string common = random_bytes(1 << 20, 99);
  std::atomic<bool> stop = false;
  std::mutex mutex;
  std::vector<std::pair<ContentObject, std::string>> committed;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (!stop) hub.content.collect();
  });
  for (int writer = 0; writer < 4; ++writer)
    threads.emplace_back([&, writer] {
      for (uint64_t round = 0; round < 15; ++round) {
        std::string bytes = random_bytes(300000, round % 5 * 10 + uint64_t(writer)) + common;
        int64_t repo = repos[size_t(writer)];
        auto begin = std::chrono::steady_clock::now();
        try {
          ContentObject object;
          if (round % 2) {
            object = hub.put(repo, bytes);
          } else {
            put_xet(hub, repo, XetFile(bytes));
            object = hub.content.object(repo, sha256_hex(bytes)).value();
          }
          EXPECT_TRUE(hub.get(object) == bytes);
          if (round % 3 == 0) {
            hub.commit(repo, object.sha256);
            std::lock_guard lock(mutex);
            committed.emplace_back(object, bytes);
          }
        } catch (const std::exception& error) {  // a machine so slow that the lease ended
          EXPECT_GT(std::chrono::steady_clock::now() - begin, 2s) << error.what();
        }
        if (round % 5 == 4) std::this_thread::sleep_for(700ms);
      }
    });
  for (size_t i = 1; i < threads.size(); ++i) threads[i].join();
  stop = true;
  threads[0].join();
  for (auto& [object, bytes] : committed) EXPECT_TRUE(hub.get(object) == bytes);
  expect_clean(hub);
  std::this_thread::sleep_for(2100ms);
  hub.content.collect();
  for (auto& [object, bytes] : committed) EXPECT_TRUE(hub.get(object) == bytes);
  expect_clean(hub);
}

// A writer in a process of its own, killed at random moments.
TEST_F(CasTest, AKilledWriterLosesNothingAcknowledged) {
  int64_t repo = Hub(folder).add_repo("a");
  std::mt19937 random(5);
  for (int round = 0; round < 8; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    pid_t child = fork();
    if (child == 0) {
      Hub hub(folder);
      for (uint64_t n = 0;; ++n) {
        std::string bytes = random_bytes(2 << 20, uint64_t(round) * 1000 + n);
        ContentObject object;
        if (n % 2) {
          object = hub.put(repo, bytes);
        } else {
          put_xet(hub, repo, XetFile(bytes));
          object.sha256 = sha256_hex(bytes);
        }
        hub.commit(repo, object.sha256);
        if (write(pipe_ends[1], object.sha256.data(), 64) != 64) _exit(1);
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(30 + random() % 400));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(pipe_ends[1]);
    Hub hub(folder);
    char sha256[64];
    while (read(pipe_ends[0], sha256, 64) == 64) {
      auto object = hub.content.object(repo, std::string(sha256, 64));
      ASSERT_TRUE(object);
      EXPECT_EQ(sha256_hex(hub.get(*object)), object->sha256);
    }
    close(pipe_ends[0]);
    expect_clean(hub);
    hub.content.collect();
    expect_clean(hub);
    EXPECT_EQ(hub.temporary_files(), 0U);
    int64_t blobs = 0;
    hub.blobs.each("xorbs", [&](const std::string&, uint64_t) { ++blobs; });
    EXPECT_EQ(blobs, hub.count("xorbs"));
  }
}

}  // namespace
}  // namespace pretrained::server::testing
