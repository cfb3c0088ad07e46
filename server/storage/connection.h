#pragma once
// One SQLite connection with its prepared statements; one thread at a time. Private to this room.

#include <SQLiteCpp/SQLiteCpp.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "server/storage/database.h"

namespace pretrained::server {

// SQLite's error as ours: ConflictError, DiskFull, IoError, FormatError (damaged), Error.
[[noreturn]] void throw_database_error(const std::string& file, const SQLite::Exception& error);

class Connection : public Transaction {
 public:
  // The file must exist. Waits up to a minute for other processes' locks.
  explicit Connection(const std::filesystem::path& file);

  int64_t last_id() override { return database_.getLastInsertRowid(); }
  int64_t run_values(std::string_view sql, const std::vector<Value>& values) override;
  void each_values(std::string_view sql, const std::vector<Value>& values,
                   const std::function<bool(const Row&)>& visit) override;

  // Outside the cache and the rules for transactions: BEGIN, PRAGMA, scripts of many statements.
  void execute(const std::string& sql);
  int64_t pragma(const std::string& name);
  bool in_transaction() const;
  void rollback() noexcept;
  SQLite::Database& raw() { return database_; }

 private:
  class Borrowed;
  void checkpoint(int pages) noexcept;
  std::string file_;
  static constexpr int kBusyMilliseconds = 60'000;
  int busy_milliseconds_ = kBusyMilliseconds, next_restart_ = 0;
  SQLite::Database database_;
  std::multimap<std::string, std::unique_ptr<SQLite::Statement>, std::less<>> idle_;
};

}  // namespace pretrained::server
