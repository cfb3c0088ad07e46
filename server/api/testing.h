#pragma once
// For the tests of this room: a whole hub in a temporary folder, asked through App::handle without
// a socket.

#include <gtest/gtest.h>
#include <unistd.h>

#include "pretrained/base/sha256.h"
#include "server/api/app.h"
#include "server/api/common.h"
#include "server/repos/testing.h"

namespace pretrained::server {

class StringSink : public Sink {
 public:
  std::string bytes;
  void write(std::string_view more) override { bytes += more; }
  void send_file(int fd, uint64_t offset, uint64_t length) override {
    size_t at = bytes.size();
    bytes.resize(at + length);
    ASSERT_EQ(pread(fd, bytes.data() + at, length, off_t(offset)), ssize_t(length));
  }
};

struct Answer {
  int status = 0;
  Headers headers;
  std::string body;
  Json json() const { return Json::parse(body, "answer"); }
  std::string header(std::string_view name) const { return std::string(headers.get(name)); }
};

// "a.0.b" inside a JSON value; null where there is none.
inline Json at(const Json& value, const std::string& path) {
  Json here = value;
  for (size_t start = 0; start <= path.size();) {
    size_t end = std::min(path.find('.', start), path.size());
    std::string key = path.substr(start, end - start);
    if (const auto* list = here.get_if<Json::Array>()) {
      size_t index = std::stoul(key);
      if (index >= list->size()) return nullptr;
      here = Json((*list)[index]);
    } else {
      const Json* member = here.find(key);
      if (!member) return nullptr;
      here = Json(*member);
    }
    start = end + 1;
  }
  return here;
}
inline std::string text_at(const Json& value, const std::string& path) {
  Json found = at(value, path);
  return found.get_if<std::string>() ? *found.get_if<std::string>() : "";
}

class HubTest : public ::testing::Test, protected TemporaryHub {
 protected:
  explicit HubTest(AppOptions options = quiet())
      : app(Services{database, blobs, accounts, git, content, repos, options,
                     std::string(32, 'k')}) {
    alice = accounts.create_user("alice");
    bob = accounts.create_user("bob");
    alice_token = accounts.create_token(alice.id, "write", "write").secret;
    alice_read_token = accounts.create_token(alice.id, "read", "read").secret;
    bob_token = accounts.create_token(bob.id, "write", "write").secret;
    alice_caller = *accounts.authenticate(alice_token);
  }
  static AppOptions quiet() {
    AppOptions options;
    options.rate_limit = 0;
    return options;
  }

  using HeaderList = std::vector<std::pair<std::string, std::string>>;
  Answer ask(const std::string& method, const std::string& target, const std::string& body = "",
             const std::string& token = "", const HeaderList& headers = {}) {
    return ask_of(app, method, target, body, token, headers);
  }
  static Answer ask_of(App& app, const std::string& method, const std::string& target,
                       const std::string& body = "", const std::string& token = "",
                       const HeaderList& headers = {}) {
    Request request;
    request.method = method;
    request.set_target(target);
    request.base_url = "http://hub.test";
    request.remote_address = "127.0.0.1";
    request.body = std::make_shared<StringBody>(body);
    if (!token.empty()) request.headers.set("Authorization", "Bearer " + token);
    for (const auto& [name, value] : headers) request.headers.set(name, value);
    Response response = app.handle(request);
    Answer answer{response.status, response.headers, {}};
    if (auto* text = std::get_if<std::string>(&response.body)) {
      answer.body = *text;
    } else {
      auto& stream = std::get<Stream>(response.body);
      StringSink sink;
      stream.produce(sink);
      if (stream.length) EXPECT_EQ(sink.bytes.size(), *stream.length);
      answer.body = std::move(sink.bytes);
    }
    return answer;
  }
  Answer get(const std::string& target, const std::string& token = "",
             const HeaderList& headers = {}) {
    return ask("GET", target, "", token, headers);
  }
  Answer post(const std::string& target, const std::string& body, const std::string& token = "",
              const HeaderList& headers = {{"Content-Type", "application/json"}}) {
    return ask("POST", target, body, token, headers);
  }
  // An address that an answer gave, without the hub's own part.
  static std::string local(const std::string& url) {
    EXPECT_TRUE(url.starts_with("http://hub.test/")) << url;
    return url.substr(std::string("http://hub.test").size());
  }

  Repo make_repo(const std::string& name, bool is_private = false,
                 const std::string& type = "model") {
    return repos.create(alice_caller, type, alice, name, is_private);
  }

  // Lines of a commit.
  static std::string line(const std::string& key, Json::Object value) {
    return Json(Json::Object{{"key", key}, {"value", std::move(value)}}).dump(0) + "\n";
  }
  static std::string header_line(const std::string& summary) {
    return line("header", {{"summary", summary}, {"description", ""}});
  }
  static std::string file_line(const std::string& path, const std::string& content) {
    return line("file",
                {{"path", path}, {"content", encode_base64(content)}, {"encoding", "base64"}});
  }
  static std::string lfs_line(const std::string& path, const std::string& bytes) {
    return line("lfsFile", {{"path", path},
                            {"algo", "sha256"},
                            {"oid", sha256_hex(bytes)},
                            {"size", int64_t(bytes.size())}});
  }
  Answer commit(const std::string& repo, const std::string& lines,
                const std::string& revision = "main", const std::string& token = "-") {
    return post("/api/models/" + repo + "/commit/" + revision, lines,
                token == "-" ? alice_token : token, {{"Content-Type", "application/x-ndjson"}});
  }
  // Stores an LFS object for a repository, behind the API's back.
  void store(const Repo& repo, const std::string& bytes) {
    StringBody body(bytes);
    content.put_object(repo.access.id, sha256_hex(bytes), bytes.size(),
                       [&](char* data, size_t size) { return body.read(data, size); });
  }

  App app;
  Account alice, bob;
  Caller alice_caller;
  std::string alice_token, alice_read_token, bob_token;
};

// Bytes that look like nothing and compress badly.
inline std::string noise(size_t size, uint64_t seed = 1) {
  std::string bytes(size, '\0');
  for (char& c : bytes) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    c = char(seed >> 56);
  }
  return bytes;
}

}  // namespace pretrained::server
