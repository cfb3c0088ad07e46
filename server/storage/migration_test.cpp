// Databases of earlier versions.

#include <gtest/gtest.h>

#include <fstream>

#include "server/storage/connection.h"
#include "server/storage/schema.h"
#include "server/storage/testing.h"

namespace pretrained::server {
namespace {

// A database as version `version` made it, with what `script` put there.
void make_old(const std::filesystem::path& file, size_t version, const std::string& script) {
  std::filesystem::path fresh = file.string() + ".fresh";
  Database(fresh, true);
  int64_t id = Connection(fresh).pragma("application_id");
  std::ofstream(file).flush();
  Connection connection(file);
  for (size_t i = 0; i < version; ++i) connection.execute(migrations().at(i));
  connection.execute(script);
  connection.execute("PRAGMA user_version = " + std::to_string(version));
  connection.execute("PRAGMA application_id = " + std::to_string(id));
}

TEST(Migration, AuthorsGetTheirNumbers) {
  TemporaryFolder folder;
  make_old(folder / "hub.db", 2, R"sql(
    INSERT INTO accounts (id, kind, name, created_at) VALUES
      (1, 'user', 'ann', 10), (2, 'user', 'again', 50), (3, 'org', 'acme', 10);
    INSERT INTO repos (id, uid, type, owner, name, created_at, updated_at)
      VALUES (7, 'u', 'model', 1, 'm', 10, 10);
    INSERT INTO discussions (repo, num, title, author, is_pull_request, status, created_at) VALUES
      (7, 1, 't', 'ann', 1, 'open', 20), (7, 2, 't', 'again', 0, 'open', 20),
      (7, 3, 't', 'acme', 0, 'open', 20), (7, 4, 't', 'gone', 0, 'open', 20);
    INSERT INTO discussion_events (id, repo, num, ordinal, type, author, data, created_at) VALUES
      ('a', 7, 1, 1, 'comment', 'ann', '{}', 20), ('b', 7, 1, 2, 'comment', 'again', '{}', 60);
    INSERT INTO refresh_tokens (hash, user, expires_at) VALUES (x'01', 1, 99);
  )sql");
  Database database(folder / "hub.db");
  database.read([](Transaction& t) {
    auto discussions = t.query("SELECT author_id FROM discussions ORDER BY num");
    EXPECT_EQ(discussions[0].optional_integer(0), 1);
    for (size_t i : {1, 2, 3}) EXPECT_FALSE(discussions[i].optional_integer(0)) << i;
    auto events = t.query("SELECT author_id FROM discussion_events ORDER BY id");
    EXPECT_EQ(events[0].optional_integer(0), 1);
    EXPECT_EQ(events[1].optional_integer(0), 2);
    EXPECT_EQ(t.one("SELECT login FROM refresh_tokens")->bytes(0), "\x01");
  });
}

TEST(Migration, NoXorbIsDamagedUntilFsckSaysSo) {
  TemporaryFolder folder;
  make_old(folder / "hub.db", 2, R"sql(
    INSERT INTO xorbs (hash, blob, bytes, raw_bytes, chunks, chunk_table, lease_until)
      VALUES (x'01', 'b', 5, 7, 1, x'02', 99);
  )sql");
  Database database(folder / "hub.db");
  database.read([](Transaction& t) {
    auto xorb = t.one("SELECT damaged, raw_bytes FROM xorbs WHERE hash = x'01'");
    ASSERT_TRUE(xorb);
    EXPECT_EQ(xorb->integer(0), 0);
    EXPECT_EQ(xorb->integer(1), 7);
  });
}

TEST(Migration, RepositoriesStayAndMayBeKernels) {
  TemporaryFolder folder;
  make_old(folder / "hub.db", 3, R"sql(
    INSERT INTO accounts (id, kind, name, created_at) VALUES (1, 'user', 'ann', 10);
    INSERT INTO repos (id, uid, type, owner, name, gated, used_bytes, created_at, updated_at, sdk)
      VALUES (7, 'u', 'space', 1, 'm', 'auto', 5, 10, 11, 'static');
    INSERT INTO refs VALUES (7, 'refs/heads/main', 'x');
  )sql");
  Database database(folder / "hub.db");
  database.write([](Transaction& t) {
    auto repo =
        t.one("SELECT type, name, gated, used_bytes, updated_at, sdk FROM repos WHERE id = 7");
    ASSERT_TRUE(repo);
    EXPECT_EQ(repo->text(0) + repo->text(1) + repo->text(2) + repo->text(5), "spacemautostatic");
    EXPECT_EQ(repo->integer(3), 5);
    EXPECT_EQ(repo->integer(4), 11);
    t.run(
        "INSERT INTO repos (id, uid, type, owner, name, created_at, updated_at) VALUES "
        "(8, 'v', 'kernel', 1, 'm', 10, 10)");
    t.run("DELETE FROM repos WHERE id = 7");
    EXPECT_FALSE(t.one("SELECT 1 FROM refs"));  // they still go with their repository
  });
}

}  // namespace
}  // namespace pretrained::server
