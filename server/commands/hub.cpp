#include "server/commands/hub.h"

#include <sys/stat.h>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

fs::path prepared(const fs::path& data) {
  std::error_code error;
  bool created = fs::create_directories(data, error);
  if (error) throw IoError(data.string() + ": cannot create the data folder: " + error.message());
  if (created) chmod(data.c_str(), 0700);
  return fs::canonical(data);
}

std::string signing_key(Database& database) {
  return database.write([](Transaction& t) {
    t.run("INSERT INTO settings (name, value) VALUES ('signing_key', ?) ON CONFLICT DO NOTHING",
          random_hex(64));
    return t.one("SELECT value FROM settings WHERE name = 'signing_key'")->text(0);
  });
}

}  // namespace

Hub::Hub(const HubOptions& options)
    : data(prepared(options.data)),
      database(data / "hub.db", options.migrate),
      blobs(data, options.disk_reserve),
      accounts(database),
      git(database, blobs, data / "cache" / "git", options.push),
      content(database, blobs),
      repos(database, accounts, git, content),
      app_(options.app),
      signing_key_(signing_key(database)) {}

Services Hub::services() {
  return {database, blobs, accounts, git, content, repos, app_, signing_key_};
}

fs::path ensure_admin(Hub& hub) {
  bool administered = hub.database.read([](Transaction& t) {
    return t
        .one(
            "SELECT 1 FROM accounts JOIN tokens ON tokens.user = accounts.id "
            "WHERE accounts.is_admin")
        .has_value();
  });
  if (administered) return {};
  auto admin = hub.accounts.find("admin");
  if (!admin) admin = hub.accounts.create_user("admin", "", true);
  fs::path file = hub.data / "admin-token";
  auto token = hub.accounts.create_token(admin->id, "first start", "write");
  write_file_atomically(file, token.secret + "\n", 0600);
  return file;
}

}  // namespace pretrained::server
