#pragma once
// For the tests of this room: a hub with one repository, git as a client, and just enough HTTP
// between them.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <thread>

#include "pretrained/base/process.h"
#include "server/git/git_store.h"
#include "server/storage/testing.h"

namespace pretrained::server {

inline int64_t add_repo(Database& database, const std::string& name) {
  return database.write([&](Transaction& t) {
    t.run(
        "INSERT INTO accounts (kind, name, created_at) VALUES ('user', 'ada', 0) "
        "ON CONFLICT DO NOTHING");
    int64_t owner = t.one("SELECT id FROM accounts WHERE name = 'ada'")->integer(0);
    t.run(
        "INSERT INTO repos (uid, type, owner, name, created_at, updated_at) "
        "VALUES (?, 'model', ?, ?, 0, 0)",
        name, owner, name);
    return t.last_id();
  });
}

inline NewCommit change(std::vector<FileChange> changes, const std::string& title = "A change") {
  return {std::move(changes), title, "", {"Ada", "ada@example.org"}};
}

inline FileChange put(const std::string& path, const std::string& content) {
  return {FileChange::Kind::add, path, content};
}

// git as a user has it, in a folder.
inline ProcessResult git(const std::filesystem::path& folder, std::vector<std::string> arguments) {
  std::vector<std::string> argv = {"env",
                                   "GIT_CONFIG_GLOBAL=/dev/null",
                                   "GIT_CONFIG_NOSYSTEM=1",
                                   "HOME=/nonexistent",
                                   "GIT_TERMINAL_PROMPT=0",
                                   "GIT_AUTHOR_NAME=Bob",
                                   "GIT_AUTHOR_EMAIL=bob@example.org",
                                   "GIT_COMMITTER_NAME=Bob",
                                   "GIT_COMMITTER_EMAIL=bob@example.org",
                                   "git",
                                   "-c",
                                   "http.postBuffer=200000000",
                                   "-c",
                                   "init.defaultBranch=main"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run_process(argv, folder);
}

inline std::string git_ok(const std::filesystem::path& folder, std::vector<std::string> arguments) {
  std::string name = arguments[0];
  ProcessResult result = git(folder, std::move(arguments));
  EXPECT_EQ(result.exit_code, 0) << "git " << name << ": " << result.output;
  while (result.output.ends_with('\n')) result.output.pop_back();
  return result.output;
}

// Smart HTTP for one repository at http://127.0.0.1:port/, one request a connection.
class GitServer {
 public:
  GitServer(GitStore& store, int64_t repo, GitStore::PushCheck check = {})
      : store_(store), repo_(repo), check_(std::move(check)) {
    listener_ = FileDescriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        listen(listener_.get(), 64) != 0)
      throw IoError("test server: cannot listen");
    getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/repo";
    accepter_ = std::thread([this] { accept_all(); });
  }
  ~GitServer() {
    shutdown(listener_.get(), SHUT_RDWR);
    accepter_.join();
  }
  std::string url;

 private:
  void accept_all() {
    std::vector<std::thread> threads;
    for (;;) {
      FileDescriptor client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client.get() < 0) break;
      threads.emplace_back([this, fd = std::move(client)] { serve(fd.get()); });
    }
    for (auto& thread : threads) thread.join();
  }

  static std::string header(const std::string& head, const std::string& name) {
    size_t at = head.find("\r\n" + name + ": ");
    if (at == head.npos) return "";
    at += name.size() + 4;
    return head.substr(at, head.find("\r\n", at) - at);
  }

  static std::string gunzip(const std::string& bytes) {
    z_stream stream{};
    inflateInit2(&stream, 31);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = uInt(bytes.size());
    std::string text;
    char out[65536];
    int code = Z_OK;
    while (code == Z_OK) {
      stream.next_out = reinterpret_cast<Bytef*>(out);
      stream.avail_out = sizeof out;
      code = inflate(&stream, Z_NO_FLUSH);
      text.append(out, sizeof out - stream.avail_out);
    }
    inflateEnd(&stream);
    return text;
  }

  void serve(int fd) {
    std::string text;
    char buffer[65536];
    auto more = [&] {
      ssize_t got = recv(fd, buffer, sizeof buffer, 0);
      if (got > 0) text.append(buffer, size_t(got));
      return got > 0;
    };
    while (text.find("\r\n\r\n") == text.npos)
      if (!more()) return;
    size_t end = text.find("\r\n\r\n");
    std::string head = text.substr(0, end + 2), length = header(head, "Content-Length");
    size_t wanted = end + 4 + (length.empty() ? 0 : std::stoull(length));
    while (text.size() < wanted)
      if (!more()) return;
    std::string body = text.substr(end + 4);
    if (header(head, "Content-Encoding") == "gzip") body = gunzip(body);
    std::string status = "200 OK", type, answer;
    try {
      answer = respond(head, body, type);
    } catch (const std::exception& error) {
      status = "500 Error";
      answer = error.what();
    }
    std::string whole = "HTTP/1.1 " + status + "\r\nConnection: close\r\nContent-Type: " + type +
                        "\r\nContent-Length: " + std::to_string(answer.size()) + "\r\n\r\n" +
                        answer;
    for (size_t sent = 0; sent < whole.size();) {
      ssize_t put = send(fd, whole.data() + sent, whole.size() - sent, MSG_NOSIGNAL);
      if (put <= 0) return;
      sent += size_t(put);
    }
  }

  std::string respond(const std::string& head, const std::string& body, std::string& type) {
    std::string protocol = header(head, "Git-Protocol");
    std::string target = head.substr(0, head.find("\r\n"));
    auto read = [&, position = size_t{0}](char* data, size_t size) mutable {
      size_t count = body.copy(data, size, position);
      position += count;
      return count;
    };
    for (std::string service : {"git-upload-pack", "git-receive-pack"})
      if (target.find("service=" + service) != target.npos) {
        type = "application/x-" + service + "-advertisement";
        return store_.advertise(repo_, service, protocol);
      }
    std::string answer;
    if (target.find("git-receive-pack") != target.npos) {
      type = "application/x-git-receive-pack-result";
      return store_.receive_pack(repo_, read, check_);
    }
    type = "application/x-git-upload-pack-result";
    store_.upload_pack(repo_, protocol, read,
                       [&](std::string_view bytes) { answer.append(bytes); });
    return answer;
  }

  GitStore& store_;
  int64_t repo_;
  GitStore::PushCheck check_;
  FileDescriptor listener_;
  std::thread accepter_;
};

class GitTest : public testing::Test {
 protected:
  TemporaryFolder folder;
  Database database{folder / "hub.db"};
  BlobStore blobs{folder / "data", 0};
  GitStore store{database, blobs, folder / "cache"};
  int64_t repo = add_repo(database, "model");

  // Commits to a branch; the new head.
  Oid commit(const std::string& branch, std::vector<FileChange> changes,
             const std::string& title = "A change") {
    std::string name = "refs/heads/" + branch;
    auto head = store.resolve(repo, name);
    std::vector<Oid> parents;
    if (head) parents.push_back(*head);
    auto stored = store.write_commit(repo, parents, change(std::move(changes), title));
    store.publish(repo, {*stored}, {{name, head.value_or(kNoOid), stored->commit}});
    return stored->commit;
  }
};

}  // namespace pretrained::server
