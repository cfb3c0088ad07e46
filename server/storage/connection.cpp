#include "server/storage/connection.h"

#include <sqlite3.h>
#include <time.h>

#include "server/storage/blobs.h"

namespace pretrained::server {
namespace {

constexpr size_t kIdleStatements = 256;
constexpr int kRestartMilliseconds = 200;
constexpr int kCheckpointPages = 1'000, kRestartPages = 8'192, kRetryPages = 1'024;

// SQLite's own handler sleeps longer and longer, and starves beside a busy process.
int wait_when_busy(void* limit, int tries) {
  if (tries >= *static_cast<const int*>(limit)) return 0;
  timespec pause{0, 1'000'000};
  nanosleep(&pause, nullptr);
  return 1;
}

void check_size(const std::string& bytes) {
  if (bytes.size() > 1'000'000'000)
    throw ArgumentError("database: a value of " + std::to_string(bytes.size()) +
                        " bytes, at most 1000000000");
}

void bind(SQLite::Statement& statement, const std::vector<Value>& values) {
  if (statement.getBindParameterCount() != int(values.size()))
    throw Error("database: " + std::to_string(values.size()) + " values for the " +
                std::to_string(statement.getBindParameterCount()) + " parameters of '" +
                statement.getQuery() + "'");
  for (size_t i = 0; i < values.size(); i++) {
    int index = int(i) + 1;
    auto& value = values[i];
    if (auto* integer = std::get_if<int64_t>(&value)) statement.bind(index, *integer);
    if (auto* number = std::get_if<double>(&value)) statement.bind(index, *number);
    if (auto* text = std::get_if<std::string>(&value)) {
      check_size(*text);
      statement.bindNoCopy(index, *text);
    }
    if (auto* bytes = std::get_if<Bytes>(&value)) {
      check_size(bytes->data);
      statement.bindNoCopy(index, static_cast<const void*>(bytes->data.data()),
                           int(bytes->data.size()));
    }
    // A null needs nothing: bindings were cleared.
  }
}

Value value_of(const SQLite::Column& column) {
  if (column.isInteger()) return int64_t{column.getInt64()};
  if (column.isFloat()) return column.getDouble();
  if (column.isNull()) return nullptr;
  if (column.isBlob()) return Bytes{column.getString()};
  return column.getString();
}

}  // namespace

void throw_database_error(const std::string& file, const SQLite::Exception& error) {
  int code = error.getErrorCode(), extended = error.getExtendedErrorCode();
  std::string message = file + ": " + error.what();
  switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
      if (extended == SQLITE_CONSTRAINT_UNIQUE || extended == SQLITE_CONSTRAINT_PRIMARYKEY ||
          extended == SQLITE_CONSTRAINT_ROWID || extended == SQLITE_CONSTRAINT_FOREIGNKEY)
        throw ConflictError(message);
      throw Error(message);
    case SQLITE_FULL:
      throw DiskFull(message);
    case SQLITE_BUSY:
      throw IoError(message + ": another process has kept it locked for a minute");
    case SQLITE_READONLY:
      throw IoError(message + ": a write inside read(), or the file or its folder is not writable");
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      throw IoError(message);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      throw FormatError(message + ": the file is damaged; restore a backup");
    default:
      throw Error(message);
  }
}

// A statement of the cache, or a new one while the same text is in use further up; goes back reset.
class Connection::Borrowed {
 public:
  Borrowed(Connection& owner, std::string_view sql) : owner_(owner) {
    // An error such as a full disk may have rolled everything back. What follows would be alone.
    if (!owner.in_transaction())
      throw Error(owner.file_ + ": the transaction has ended already, by an earlier error");
    auto found = owner.idle_.find(sql);
    if (found != owner.idle_.end())
      statement_ = std::move(owner.idle_.extract(found).mapped());
    else
      statement_ = std::make_unique<SQLite::Statement>(owner.database_, std::string(sql));
  }
  ~Borrowed() {
    statement_->tryReset();
    statement_->clearBindings();
    if (owner_.idle_.size() >= kIdleStatements) owner_.idle_.clear();
    std::string sql = statement_->getQuery();
    owner_.idle_.emplace(std::move(sql), std::move(statement_));
  }
  Borrowed(const Borrowed&) = delete;
  SQLite::Statement& operator*() { return *statement_; }
  SQLite::Statement* operator->() { return statement_.get(); }

 private:
  Connection& owner_;
  std::unique_ptr<SQLite::Statement> statement_;
};

Connection::Connection(const std::filesystem::path& file) try
    : file_(file.string()),
      database_(file.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX) {
  sqlite3_busy_handler(database_.getHandle(), wait_when_busy, &busy_milliseconds_);
  sqlite3_wal_hook(
      database_.getHandle(),
      [](void* self, sqlite3*, const char*, int pages) {
        static_cast<Connection*>(self)->checkpoint(pages);
        return SQLITE_OK;  // whatever became of it: the commit is in the log
      },
      this);
  sqlite3_extended_result_codes(database_.getHandle(), 1);
  database_.exec("PRAGMA synchronous = FULL");
  database_.exec("PRAGMA foreign_keys = ON");
  database_.exec("PRAGMA trusted_schema = OFF");
  database_.exec("PRAGMA journal_size_limit = 67108864");
} catch (const SQLite::Exception& error) {
  throw_database_error(file.string(), error);
}

// After a commit that left `pages` in the log. Readers that follow each other without a gap keep
// SQLite from ever starting the log again; so from 32 MiB on we wait a moment for those in it, and
// where one stays longer, again every 4 MiB.
void Connection::checkpoint(int pages) noexcept {
  if (pages < kCheckpointPages) next_restart_ = kRestartPages;
  if (pages < kCheckpointPages) return;
  bool restart = pages >= next_restart_;
  if (restart) next_restart_ = pages + kRetryPages;
  busy_milliseconds_ = kRestartMilliseconds;
  sqlite3_wal_checkpoint_v2(database_.getHandle(), nullptr,
                            restart ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE,
                            nullptr, nullptr);
  busy_milliseconds_ = kBusyMilliseconds;
}

int64_t Connection::run_values(std::string_view sql, const std::vector<Value>& values) try {
  Borrowed statement(*this, sql);
  bind(*statement, values);
  while (statement->executeStep()) {
  }
  return database_.getChanges();
} catch (const SQLite::Exception& error) {
  throw_database_error(file_, error);
}

void Connection::each_values(std::string_view sql, const std::vector<Value>& values,
                             const std::function<bool(const Row&)>& visit) try {
  Borrowed statement(*this, sql);
  bind(*statement, values);
  while (statement->executeStep()) {
    std::vector<Value> row;
    for (int i = 0; i < statement->getColumnCount(); i++)
      row.push_back(value_of(statement->getColumn(i)));
    if (!visit(Row(std::move(row)))) break;
  }
} catch (const SQLite::Exception& error) {
  throw_database_error(file_, error);
}

void Connection::execute(const std::string& sql) try {
  database_.exec(sql);
} catch (const SQLite::Exception& error) {
  throw_database_error(file_, error);
}

int64_t Connection::pragma(const std::string& name) try {
  return database_.execAndGet("PRAGMA " + name).getInt64();
} catch (const SQLite::Exception& error) {
  throw_database_error(file_, error);
}

bool Connection::in_transaction() const {
  return sqlite3_get_autocommit(database_.getHandle()) == 0;
}

void Connection::rollback() noexcept {
  if (in_transaction()) database_.tryExec("ROLLBACK");
}

}  // namespace pretrained::server
