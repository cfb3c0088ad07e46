#include "server/storage/database.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <set>
#include <thread>

#include "server/storage/blobs.h"
#include "server/storage/testing.h"

namespace pretrained::server {
namespace {
using testing::HasSubstr;

template <class E>
std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "nothing was thrown";
}

void set(Transaction& t, const std::string& name, const std::string& value) {
  t.run("INSERT INTO settings VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", name,
        value);
}
std::string get(Database& database, const std::string& name) {
  return database.read([&](Transaction& t) {
    auto row = t.one("SELECT value FROM settings WHERE name = ?", name);
    return row ? row->text(0) : std::string();
  });
}
int64_t count(Database& database) {
  return database.read(
      [](Transaction& t) { return t.one("SELECT count(*) FROM settings")->integer(0); });
}

TEST(Database, EveryKindOfValueComesBack) {
  TemporaryFolder folder;
  Database database(folder / "hub.db");
  std::string text("a\0b", 3), bytes("\0\xff", 2);
  auto row = *database.read([&](Transaction& t) {
    return t.one("SELECT ?, ?, ?, ?, ?, ?, ?", nullptr, INT64_MIN, text, Bytes{bytes}, true,
                 Bytes{""}, "");
  });
  EXPECT_TRUE(row.null(0));
  EXPECT_EQ(row.integer(1), INT64_MIN);
  EXPECT_EQ(row.text(2), text);
  EXPECT_EQ(row.bytes(3), bytes);
  EXPECT_EQ(row.integer(4), 1);
  EXPECT_EQ(row.bytes(5), "");
  EXPECT_EQ(row.text(6), "");
  EXPECT_EQ(row.optional_integer(0), std::nullopt);
  EXPECT_EQ(row.optional_text(2), text);
  EXPECT_THAT(message_of<Error>([&] { row.integer(2); }),
              HasSubstr("column 2 holds text, expected an integer"));
  EXPECT_THAT(message_of<Error>([&] { row.text(3); }), HasSubstr("holds bytes"));
  EXPECT_THAT(message_of<Error>([&] { row.text(9); }), HasSubstr("column 9 of a row of 7"));
}

TEST(Database, AWriteIsAllOrNothing) {
  TemporaryFolder folder;
  Database database(folder / "hub.db");
  EXPECT_THROW(database.write([](Transaction& t) {
    set(t, "a", "1");
    throw std::runtime_error("no");
  }),
               std::runtime_error);
  EXPECT_EQ(get(database, "a"), "");
  database.write([](Transaction& t) { set(t, "a", "2"); });
  EXPECT_EQ(get(database, "a"), "2");
}

TEST(Database, RulesThatRefuseAreConflicts) {
  TemporaryFolder folder;
  Database database(folder / "hub.db");
  auto add = [](const char* sql) { return [sql](Transaction& t) { t.run(sql); }; };
  auto user = "INSERT INTO accounts (kind, name, created_at) VALUES ('user', 'Bob', 0)";
  database.write(add(user));
  EXPECT_THROW(database.write(add(user)), ConflictError);
  EXPECT_THROW(database.write(add("INSERT INTO members VALUES (1, 77, 'read')")), ConflictError);
  // The schema's other rules are bugs of ours.
  EXPECT_THAT(
      message_of<Error>([&] { database.write(add("INSERT INTO members VALUES (1, 1, 'king')")); }),
      HasSubstr("CHECK"));
  // A refused statement leaves the transaction usable.
  database.write([&](Transaction& t) {
    EXPECT_THROW(t.run(user), ConflictError);
    set(t, "still", "here");
  });
  EXPECT_EQ(get(database, "still"), "here");
}

TEST(Database, MistakesOfTheCallerAreNamed) {
  TemporaryFolder folder;
  Database database(folder / "hub.db");
  auto nested = [&] { database.write([&](Transaction&) { get(database, "a"); }); };
  EXPECT_THAT(message_of<Error>(nested), HasSubstr("inside another one of the same thread"));
  EXPECT_EQ(get(database, "a"), "");  // and the next one works
  EXPECT_THAT(message_of<Error>([&] { database.read([](Transaction& t) { set(t, "a", "1"); }); }),
              HasSubstr("a write inside read()"));
  EXPECT_THAT(
      message_of<Error>([&] { database.read([](Transaction& t) { t.query("SELECT ?, ?", 1); }); }),
      HasSubstr("1 values for the 2 parameters of 'SELECT ?, ?'"));
  EXPECT_THROW(database.read([](Transaction& t) { t.query("SELEKT"); }), Error);
}

TEST(Database, RowsOneByOneAndTheSameStatementWithinItself) {
  TemporaryFolder folder;
  Database database(folder / "hub.db");
  std::vector<int64_t> seen;
  auto numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
  database.read([&](Transaction& t) {
    t.each_values(numbers, {}, [&](const Row& outer) {
      t.each_values(numbers, {}, [&](const Row& inner) {
        seen.push_back(10 * outer.integer(0) + inner.integer(0));
        return inner.integer(0) < 2;
      });
      return outer.integer(0) < 2;
    });
  });
  EXPECT_EQ(seen, (std::vector<int64_t>{11, 12, 21, 22}));
}

TEST(Database, AReadIsOneMoment) {
  TemporaryFolder folder;
  Database database(folder / "hub.db");
  database.read([&](Transaction& t) {
    EXPECT_EQ(t.one("SELECT count(*) FROM settings")->integer(0), 0);
    std::thread([&] { database.write([](Transaction& w) { set(w, "a", "1"); }); }).join();
    EXPECT_EQ(t.one("SELECT count(*) FROM settings")->integer(0), 0);
  });
  EXPECT_EQ(count(database), 1);
}

TEST(Database, SixtyFourWritersAndReadersAllGetTheirTurn) {
  TemporaryFolder folder;
  Database database(folder / "hub.db");
  database.write([](Transaction& t) { set(t, "n", "0"); });
  constexpr int kTurns = 5;
  std::vector<int> done(64);
  std::atomic<size_t> content = 0;  // writers that had so many turns; they go on until all had
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (auto& mine : done)
    threads.emplace_back([&] {
      while (!stop) {
        database.write([](Transaction& t) {
          int64_t n = std::stoll(t.one("SELECT value FROM settings")->text(0));
          set(t, "n", std::to_string(n + 1));
        });
        if (++mine == kTurns) ++content;
      }
    });
  for (int i = 0; i < 16; i++)
    threads.emplace_back([&] {
      for (int64_t last = 0; !stop;) {
        int64_t now = std::stoll(get(database, "n"));
        EXPECT_LE(last, now);
        last = now;
      }
    });
  while (content < done.size()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  stop = true;
  for (auto& thread : threads) thread.join();
  int total = 0;
  for (int mine : done) total += mine;
  EXPECT_EQ(get(database, "n"), std::to_string(total));
}

TEST(Database, ReadersThatNeverPauseDoNotLetTheLogGrow) {
  TemporaryFolder folder;
  Database database(folder / "hub.db");
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; i++)
    readers.emplace_back([&] {
      while (!stop)
        database.read([](Transaction& t) {
          t.query("SELECT count(*) FROM settings");
          std::this_thread::sleep_for(std::chrono::milliseconds(10));
        });
    });
  uintmax_t longest = 0;
  for (int i = 0; i < 100; i++) {
    database.write([&](Transaction& t) {
      set(t, std::to_string(i % 8), std::string(1 << 20, char('a' + i % 26)));
    });
    longest = std::max(longest, std::filesystem::file_size(folder / "hub.db-wal"));
  }
  stop = true;
  for (auto& reader : readers) reader.join();
  EXPECT_LT(longest, 64u << 20);
}

TEST(Database, TwoProcessesShareOneFile) {
  TemporaryFolder folder;
  std::vector<pid_t> children;  // they create and migrate it at the same time, too
  for (int child = 0; child < 4; child++)
    children.push_back(start_child([&] {
      Database database(folder / "hub.db");
      for (int i = 0; i < 100; i++)
        database.write(
            [&](Transaction& t) { set(t, std::to_string(child) + "." + std::to_string(i), ""); });
      return true;
    }));
  for (pid_t child : children) EXPECT_EQ(wait_for(child), 0);
  Database database(folder / "hub.db");
  EXPECT_EQ(count(database), 400);
}

// The child tells through a pipe what was acknowledged, and is killed at any moment.
TEST(Database, KillLosesNothingAcknowledgedAndLeavesNothingHalf) {
  TemporaryFolder folder;
  std::set<int64_t> acknowledged;
  for (int round = 0; round < 25; round++) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    pid_t child = start_child([&] {
      Database database(folder / "hub.db");
      for (int64_t i = round * 100'000;; i++) {
        database.write([&](Transaction& t) {
          set(t, "first" + std::to_string(i), "");
          set(t, "second" + std::to_string(i), "");
        });
        if (write(ends[1], &i, sizeof i) != sizeof i) return false;
      }
    });
    close(ends[1]);
    int64_t first;
    if (round % 2 && read(ends[0], &first, sizeof first) == sizeof first)  // it is at work
      acknowledged.insert(first);
    std::this_thread::sleep_for(std::chrono::milliseconds(4 + 3 * round));
    kill(child, SIGKILL);
    EXPECT_EQ(wait_for(child), 128 + SIGKILL);
    for (int64_t i; read(ends[0], &i, sizeof i) == sizeof i;) acknowledged.insert(i);
    close(ends[0]);
  }
  Database database(folder / "hub.db");
  EXPECT_GT(acknowledged.size(), 0u);
  database.read([&](Transaction& t) {
    for (int64_t i : acknowledged)
      EXPECT_TRUE(t.one("SELECT 1 FROM settings WHERE name = ?", "first" + std::to_string(i))) << i;
    EXPECT_FALSE(
        t.one("SELECT name FROM settings s WHERE name LIKE 'first%' AND NOT EXISTS (SELECT 1 FROM "
              "settings WHERE name = 'second' || substr(s.name, 6))"));
    EXPECT_EQ(t.one("PRAGMA integrity_check")->text(0), "ok");
  });
}

TEST(Database, TheFileIsPrivateAndAForeignOneIsRefused) {
  TemporaryFolder folder;
  {
    Database database(folder / "hub.db");
  }
  struct stat status;
  ASSERT_EQ(stat((folder / "hub.db").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);

  SQLite::Database other((folder / "other.db").string(),
                         SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  other.exec("CREATE TABLE x (y)");
  EXPECT_THAT(message_of<FormatError>([&] { Database database(folder / "other.db"); }),
              HasSubstr("another program"));
  std::ofstream(folder / "text.db") << std::string(5000, 'x');
  EXPECT_THAT(message_of<FormatError>([&] { Database database(folder / "text.db"); }),
              HasSubstr("damaged"));
  EXPECT_THROW(Database(folder / "absent" / "hub.db"), NotFoundError);
}

TEST(Database, SchemaVersions) {
  TemporaryFolder folder;
  std::string file = (folder / "hub.db").string();
  EXPECT_THAT(message_of<Error>([&] { Database database(file, false); }),
              HasSubstr("schema version 0, needed is"));
  {
    Database database(file);
  }
  {
    Database database(file, false);
  }
  SQLite::Database(file, SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 999");
  std::string message = message_of<Error>([&] { Database database(file); });
  EXPECT_THAT(message, HasSubstr("schema version 999, this pretrained-hub knows up to " +
                                 std::to_string(Database::schema_version())));
}

TEST(Database, DamageIsSaid) {
  TemporaryFolder folder;
  {
    Database database(folder / "hub.db");
    database.write([](Transaction& t) {
      for (int i = 0; i < 2000; i++) set(t, "name" + std::to_string(i), std::string(500, 'v'));
    });
  }
  std::fstream file(folder / "hub.db", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(300'000);
  file << std::string(300'000, '\x5a');
  file.close();
  EXPECT_THAT(message_of<FormatError>([&] {
                Database database(folder / "hub.db");
                database.read(
                    [](Transaction& t) { t.query("SELECT value FROM settings WHERE name >= ''"); });
              }),
              HasSubstr("damaged; restore a backup"));
}

TEST(Database, BackupWhileWritesGoOn) {
  TemporaryFolder folder;
  Database database(folder / "hub.db");
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (int i = 0; !stop; i++)
      database.write([&](Transaction& t) {
        set(t, "first" + std::to_string(i), std::string(2000, 'x'));
        set(t, "second" + std::to_string(i), std::string(2000, 'x'));
      });
  });
  while (count(database) < 200) std::this_thread::yield();
  for (int i = 0; i < 5; i++) {
    auto target = folder / ("backup" + std::to_string(i));
    database.backup(target);
    struct stat status;
    EXPECT_EQ(stat(target.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    Database copy(target);
    EXPECT_GE(count(copy), 200);
    EXPECT_EQ(count(copy) % 2, 0);
    EXPECT_THROW(database.backup(target), IoError) << "is there already";
  }
  stop = true;
  writer.join();
}

TEST(Database, AFullDiskIsDiskFullAndNothingIsLost) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root for a small disk";
  TemporaryFolder folder;
  EXPECT_EQ(wait_for(start_child([&] {
              if (unshare(CLONE_NEWNS) != 0 || mount("", "/", "", MS_REC | MS_PRIVATE, "") != 0 ||
                  mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=2m") != 0)
                return true;  // not allowed here
              Database database(folder / "hub.db");
              int written = 0;
              std::string message = message_of<DiskFull>([&] {
                for (;; written++)
                  database.write([&](Transaction& t) {
                    set(t, std::to_string(written), std::string(50'000, 'x'));
                  });
              });
              return message.find("full") != message.npos && count(database) == written &&
                     written > 3;
            })),
            0);
}

TEST(Database, AWriteThatFailsLeavesTheDatabaseUsable) {
  TemporaryFolder folder;
  EXPECT_EQ(wait_for(start_child([&] {
              Database database(folder / "hub.db");
              rlimit limit{600'000, RLIM_INFINITY};
              signal(SIGXFSZ, SIG_IGN);
              setrlimit(RLIMIT_FSIZE, &limit);
              std::string message = message_of<IoError>([&] {
                database.write([&](Transaction& t) { set(t, "big", std::string(5'000'000, 'x')); });
              });
              if (message.find("another error") == 0) return false;
              limit.rlim_cur = RLIM_INFINITY;
              setrlimit(RLIMIT_FSIZE, &limit);
              database.write([&](Transaction& t) { set(t, "small", "x"); });
              return count(database) == 1;
            })),
            0);
}

TEST(Database, AFolderThatCannotBeWritten) {
  TemporaryFolder folder;
  {
    Database database(folder / "hub.db");
  }
  chmod((folder / "hub.db").c_str(), 0444);
  chmod(folder.path().c_str(), 0555);
  EXPECT_EQ(wait_for(start_child([&] {
              if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) return false;
              std::string old = message_of<IoError>([&] { Database database(folder / "hub.db"); });
              std::string fresh =
                  message_of<IoError>([&] { Database database(folder / "new.db"); });
              return old.find("hub.db") != old.npos && old.find("another error") != 0 &&
                     fresh.find("new.db") != fresh.npos && fresh.find("another error") != 0;
            })),
            0);
  chmod(folder.path().c_str(), 0755);
}

TEST(Values, DatesAndRandomDigits) {
  EXPECT_EQ(iso8601(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(iso8601(1795556302007), "2026-11-24T21:38:22.007Z");
  EXPECT_EQ(iso8601(-1), "1969-12-31T23:59:59.999Z");
  EXPECT_NEAR(double(now_ms()), double(time(nullptr)) * 1000, 2000);
  std::set<std::string> seen;
  for (size_t digits : {1, 2, 31, 32, 300}) EXPECT_EQ(random_hex(digits).size(), digits);
  for (int i = 0; i < 1000; i++) EXPECT_TRUE(seen.insert(random_hex(16)).second);
  EXPECT_EQ(random_hex(1000).find_first_not_of("0123456789abcdef"), std::string::npos);
}

TEST(DatabaseIds, NoneIsGivenTwice) {
  TemporaryFolder folder;
  Database database(folder / "hub.db");
  auto add = [&](const std::string& name) {
    return database.write([&](Transaction& t) {
      int64_t id = fresh_id(t, "accounts");
      t.run("INSERT INTO accounts (id, kind, name, created_at) VALUES (?, 'user', ?, 0)", id, name);
      return id;
    });
  };
  database.write([](Transaction& t) {
    t.run("INSERT INTO accounts (id, kind, name, created_at) VALUES (7, 'user', 'old', 0)");
  });
  EXPECT_EQ(add("a"), 8);
  int64_t last = add("b");
  database.write([&](Transaction& t) { t.run("DELETE FROM accounts WHERE id >= 7"); });
  EXPECT_EQ(add("c"), last + 1);
}

}  // namespace
}  // namespace pretrained::server
