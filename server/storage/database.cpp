#include "server/storage/database.h"

#include <SQLiteCpp/Backup.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "pretrained/base/files.h"
#include "server/storage/connection.h"
#include "server/storage/durable.h"
#include "server/storage/schema.h"

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kApplicationId = 0x70746862;  // "pthb"
constexpr size_t kReaders = 8;

// The databases in whose transactions this thread is.
thread_local std::vector<const void*> inside;

class Inside {
 public:
  explicit Inside(const void* database) {
    if (std::find(inside.begin(), inside.end(), database) != inside.end())
      throw Error(
          "database: a transaction was begun inside another one of the same thread; use the "
          "Transaction that the outer one was given");
    inside.push_back(database);
  }
  ~Inside() { inside.pop_back(); }
  Inside(const Inside&) = delete;
};

// An empty private file; false where one is there already, which is not even opened: to close it
// would drop the locks that this process may hold through SQLite.
bool create_file(const fs::path& file) {
  FileDescriptor fd(open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (fd.get() < 0 && errno != EEXIST) throw_io(file, errno);
  return fd.get() >= 0;
}

fs::path folder_of(const fs::path& file) {
  return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

void check_ours(Connection& connection, const fs::path& file) {
  int64_t version = connection.pragma("user_version");
  int64_t id = connection.pragma("application_id");
  bool empty = version == 0 && id == 0 && connection.pragma("schema_version") == 0;
  if (!empty && id != kApplicationId)
    throw FormatError(file.string() + ": a database of another program than pretrained-hub");
  if (version > Database::schema_version())
    throw Error(file.string() + ": schema version " + std::to_string(version) +
                ", this pretrained-hub knows up to " + std::to_string(Database::schema_version()) +
                "; use the newer program");
}

void run_in(Connection& connection, const char* begin, const std::function<void(Transaction&)>& f) {
  connection.execute(begin);
  try {
    f(connection);
    connection.execute("COMMIT");
  } catch (...) {
    connection.rollback();
    throw;
  }
}

// From `version` to the next, unless another process did it meanwhile.
void migrate_once(Connection& connection, int64_t version) {
  run_in(connection, "BEGIN IMMEDIATE", [&](Transaction& transaction) {
    if (connection.pragma("user_version") != version) return;
    connection.execute(migrations()[size_t(version)]);
    if (transaction.one("PRAGMA foreign_key_check"))
      throw Error("migration to schema version " + std::to_string(version + 1) +
                  " leaves rows that refer to nothing");
    connection.execute("PRAGMA user_version = " + std::to_string(version + 1));
    connection.execute("PRAGMA application_id = " + std::to_string(kApplicationId));
  });
}

void bring_up_to_date(Connection& connection, const fs::path& file, bool migrate) {
  check_ours(connection, file);
  int64_t version = connection.pragma("user_version");
  if (!migrate && version < Database::schema_version())
    throw Error(file.string() + ": schema version " + std::to_string(version) + ", needed is " +
                std::to_string(Database::schema_version()) +
                "; start the server once to bring it up to date");
  connection.execute("PRAGMA journal_mode = WAL");
  connection.execute("PRAGMA foreign_keys = OFF");  // migrations may rebuild tables
  while ((version = connection.pragma("user_version")) < Database::schema_version())
    migrate_once(connection, version);
  check_ours(connection, file);
  connection.execute("PRAGMA foreign_keys = ON");
}

}  // namespace

// Writers are served in the order in which they came.
struct Database::State {
  fs::path file;
  std::mutex mutex;
  std::condition_variable writer_changed, reader_free;
  uint64_t next_ticket = 0, serving = 0;
  std::unique_ptr<Connection> writer;
  std::vector<std::unique_ptr<Connection>> idle_readers;
  size_t readers = 0;

  struct WriteTurn {
    explicit WriteTurn(State& state) : state(state) {
      std::unique_lock lock(state.mutex);
      uint64_t ticket = state.next_ticket++;
      state.writer_changed.wait(lock, [&] { return state.serving == ticket; });
    }
    ~WriteTurn() {
      std::lock_guard lock(state.mutex);
      state.serving++;
      state.writer_changed.notify_all();
    }
    State& state;
  };

  struct Reader {
    explicit Reader(State& state) : state(state) {
      std::unique_lock lock(state.mutex);
      state.reader_free.wait(
          lock, [&] { return !state.idle_readers.empty() || state.readers < kReaders; });
      if (!state.idle_readers.empty()) {
        connection = std::move(state.idle_readers.back());
        state.idle_readers.pop_back();
        return;
      }
      state.readers++;
      lock.unlock();
      try {
        connection = std::make_unique<Connection>(state.file);
        connection->execute("PRAGMA query_only = ON");
      } catch (...) {
        lock.lock();
        state.readers--;
        state.reader_free.notify_one();
        throw;
      }
    }
    ~Reader() {
      std::lock_guard lock(state.mutex);
      if (connection->in_transaction())
        state.readers--;  // it could not even roll back
      else
        state.idle_readers.push_back(std::move(connection));
      state.reader_free.notify_one();
    }
    State& state;
    std::unique_ptr<Connection> connection;
  };
};

Database::Database(const fs::path& file, bool migrate) : state_(std::make_unique<State>()) {
  state_->file = file;
  create_file(file);
  // SQLite does not wait for another process that turns the same new file to WAL.
  FileLock one_at_a_time(file.string() + ".lock");
  state_->writer = std::make_unique<Connection>(file);
  bring_up_to_date(*state_->writer, file, migrate);
  sync_folder(folder_of(file));
}

Database::~Database() = default;

void Database::run(bool write, const std::function<void(Transaction&)>& f) {
  Inside guard(state_.get());
  if (write) {
    State::WriteTurn turn(*state_);
    run_in(*state_->writer, "BEGIN IMMEDIATE", f);
  } else {
    State::Reader reader(*state_);
    run_in(*reader.connection, "BEGIN", f);
  }
}

void Database::backup(const fs::path& target) {
  Inside guard(state_.get());
  if (!create_file(target)) throw IoError(target.string() + ": is there already");
  try {
    State::Reader reader(*state_);
    Connection copy(target);
    try {
      SQLite::Backup backup(copy.raw(), reader.connection->raw());
      if (backup.executeStep(-1) != SQLITE_DONE)
        throw IoError(target.string() + ": another process writes to the backup");
    } catch (const SQLite::Exception& error) {
      throw_database_error(target.string(), error);
    }
  } catch (...) {
    unlink(target.c_str());
    throw;
  }
  sync_folder(folder_of(target));
}

int Database::schema_version() { return int(migrations().size()); }

int64_t fresh_id(Transaction& t, const std::string& table) {
  std::string name = "last id of " + table,
              most = "(SELECT coalesce(max(id), 0) FROM " + table + ")";
  t.run("INSERT INTO settings (name, value) VALUES (?, " + most +
            " + 1) ON CONFLICT DO UPDATE SET value = max(CAST(value AS INTEGER), " + most + ") + 1",
        name);
  return t.one("SELECT CAST(value AS INTEGER) FROM settings WHERE name = ?", name)->integer(0);
}

}  // namespace pretrained::server
