#include "server/api/commit_reader.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "server/api/common.h"
#include "server/http/http.h"

namespace pretrained::server {
namespace {

CommitReader reader(const std::string& text, CommitLimits limits = {}, size_t step = 1 << 20) {
  auto body = std::make_shared<StringBody>(text);
  return CommitReader(
      [body, step](char* data, size_t size) { return body->read(data, std::min(size, step)); },
      [] { return StagedBlob(std::filesystem::temp_directory_path() / random_hex(32)); }, limits);
}

int status_of(const std::string& text, CommitLimits limits = {}) {
  try {
    auto r = reader(text, limits);
    r.header();
    while (r.next()) {
    }
    return 200;
  } catch (const HttpError& e) {
    return e.status;
  }
}

const std::string kHeader = R"({"key":"header","value":{"summary":"s","description":"d"}})"
                            "\n";

std::string with(const std::string& line) { return kHeader + line; }

TEST(CommitReader, EveryKindOfOperationInOrder) {
  std::string oid(64, 'a');
  auto r = reader(
      kHeader +
          R"({"key":"file","value":{"content":"aGk=","path":"a/b.txt","encoding":"base64"}})" +
          "\n" + R"({"key":"lfsFile","value":{"path":"m.bin","algo":"sha256","oid":")" + oid +
          R"(","size":12}})" + "\n" + R"({"key":"lfsFile","value":{"path":"c.bin","oid":")" + oid +
          R"("}})" + "\n" + R"({"key":"deletedFile","value":{"path":"x"}})" + "\n" +
          R"({"key":"deletedFolder","value":{"path":"dir/"}})",  // no newline: as JavaScript sends
      {}, 7);
  auto header = r.header();
  EXPECT_EQ(header.summary, "s");
  EXPECT_EQ(header.description, "d");
  EXPECT_FALSE(header.parent);
  auto file = r.next();
  EXPECT_EQ(file->path, "a/b.txt");
  EXPECT_EQ(file->content.text, "hi");
  EXPECT_EQ(r.next()->size, 12u);
  EXPECT_FALSE(r.next()->size);
  EXPECT_EQ(r.next()->kind, CommitOperation::Kind::delete_file);
  EXPECT_EQ(r.next()->path, "dir");
  EXPECT_FALSE(r.next());
}

TEST(CommitReader, RefusesWhatIsMalformed) {
  EXPECT_EQ(status_of(""), 400);
  EXPECT_EQ(status_of("\n\n"), 400);
  EXPECT_EQ(status_of("{"), 400);
  EXPECT_EQ(status_of("[]"), 400);
  EXPECT_EQ(status_of(R"({"key":"file","value":{"path":"a","content":""}})"), 400);
  EXPECT_EQ(status_of(R"({"key":"header","value":{"summary":"  "}})"), 400);
  EXPECT_EQ(status_of(R"({"key":"header","value":{"summary":1}})"), 400);
  EXPECT_EQ(status_of(R"({"key":"header","value":{"summary":"a","parentCommit":7}})"), 400);
  EXPECT_EQ(status_of(with(R"({"key":"rename","value":{"path":"a"}})")), 400);
  EXPECT_EQ(status_of(with(R"({"key":"file","value":"a"})")), 400);
  EXPECT_EQ(status_of(with(R"({"key":"file","value":{"path":"a"}})")), 400);
  EXPECT_EQ(
      status_of(with(R"({"key":"file","value":{"path":"a","content":"aGk","encoding":"base64"}})")),
      400);
  EXPECT_EQ(
      status_of(with(R"({"key":"file","value":{"path":"a","content":"aGk=","encoding":"utf-8"}})")),
      400);
  EXPECT_EQ(status_of(with(R"({"key":"lfsFile","value":{"path":"a","oid":"xyz"}})")), 400);
  EXPECT_EQ(status_of(with(R"({"key":"lfsFile","value":{"path":"a","oid":")" +
                           std::string(64, 'A') + R"("}})")),
            400);
  EXPECT_EQ(status_of(with(R"({"key":"lfsFile","value":{"path":"a","oid":")" +
                           std::string(64, 'a') + R"(","size":-1}})")),
            400);
  EXPECT_EQ(status_of(with(R"({"key":"lfsFile","value":{"path":"a","algo":"md5","oid":")" +
                           std::string(64, 'a') + R"("}})")),
            400);
  EXPECT_EQ(status_of(kHeader + std::string(70, '[')), 400);
}

TEST(CommitReader, LimitsAreLimits) {
  CommitLimits limits;
  limits.contents.file = 3000;
  limits.content_bytes = 5000;
  limits.operations = 3;
  auto file = [](size_t size) {
    return R"({"key":"file","value":{"path":"a","content":")" +
           encode_base64(std::string(size, 'x')) + "\"}}\n";
  };
  EXPECT_EQ(status_of(with(file(3000)), limits), 200);
  EXPECT_EQ(status_of(with(file(3001)), limits), 413);
  EXPECT_EQ(status_of(with(file(3000) + file(3000)), limits), 413);
  EXPECT_EQ(status_of(with(file(1) + file(1) + file(1)), limits), 200);
  EXPECT_EQ(status_of(with(file(1) + file(1) + file(1) + file(1)), limits), 413);
  limits.body_bytes = 100;
  EXPECT_EQ(status_of(with(file(100)), limits), 413);
}

TEST(CommitReader, ALineWithoutEndIsNotKept) {
  uint64_t given = 0;
  std::string start = R"({"key":"header","value":{"content":")";
  for (size_t skip : {size_t{0}, start.size()}) {
    CommitReader r(
        [&](char* data, size_t size) {
          std::fill(data, data + size, 'a');
          start.copy(data, given == 0 ? skip : 0);
          given += size;
          return size;
        },
        [] { return StagedBlob(std::filesystem::temp_directory_path() / random_hex(32)); });
    EXPECT_THROW(r.header(), HttpError);
    EXPECT_LT(std::exchange(given, 0), uint64_t{16} << 20);
  }
}

// Small ones in memory, others in a file, the same bytes however they arrive and are written.
TEST(CommitReader, ContentsAreKeptWhereTheyFit) {
  CommitLimits limits;
  limits.contents = {1 << 20, 1000, 2500};
  std::string text = kHeader;
  std::vector<std::string> files;
  std::mt19937 random(1);
  for (size_t size : {0, 1, 1000, 1001, 1000, 999, 300'000, 98'304, 2, 1 << 20}) {
    files.emplace_back(size, '\0');
    for (char& c : files.back()) c = char(random());
    std::string encoded;
    for (char c : encode_base64(files.back()))
      encoded += c == '/' && size % 2   ? "\\/"
                 : c == '+' && size % 2 ? "\\u002b"
                                        : std::string(1, c);
    text += R"({"key":"file","value":{"content" : ")" + encoded +
            R"(","path":"\"content\":\""}})"
            "\n";
  }
  for (size_t step : {1 << 20, 1000, 7}) {
    auto r = reader(text, limits, step);
    r.header();
    for (size_t i = 0; i < files.size(); ++i) {
      auto content = r.next()->content;
      EXPECT_EQ(content.piece.has_value(), i == 3 || i == 5 || i == 6 || i == 7 || i == 9) << i;
      EXPECT_EQ(content.size, files[i].size());
      EXPECT_TRUE(content.piece ? content.piece->read() == files[i] : content.text == files[i])
          << i;
    }
    EXPECT_FALSE(r.next());
    auto file = r.take_file();
    EXPECT_TRUE(std::filesystem::exists(file->path()));
    std::filesystem::path path = file->path();
    file.reset();
    EXPECT_FALSE(std::filesystem::exists(path));
  }
}

TEST(CommitReader, RefusesContentsThatAreNone) {
  auto file = [](const std::string& fields) {
    return with(R"({"key":"file","value":{"path":"a",)" + fields + "}}");
  };
  std::string good = encode_base64(std::string(200'000, 'x')), late = good + "=" + good;
  EXPECT_EQ(status_of(file(R"("content":")" + good + "\"")), 200);
  for (const std::string& bad : {good + "=", good + "a", late, "====" + good, good + R"(\n)",
                                 good + R"(\u00)", good + "\\", good + "\n" + good})
    EXPECT_EQ(status_of(file(R"("content":")" + bad + "\"")), 400) << bad.size();
  EXPECT_EQ(status_of(file(R"("content":"aGk=","content":"aGk=")")), 400);
  EXPECT_EQ(status_of(file(R"("c\u006fntent":"aGk=")")), 400);
  EXPECT_EQ(status_of(file(R"("\"content":"aGk=")")), 400);
  EXPECT_EQ(status_of(file(R"("content":7)")), 400);
  EXPECT_EQ(status_of(file(R"("content":"aGk=)")), 400);
}

TEST(StrictBase64, OnlyTheCanonicalText) {
  EXPECT_EQ(decode_strict_base64(""), "");
  EXPECT_EQ(decode_strict_base64("aGk="), "hi");
  EXPECT_EQ(decode_strict_base64("aA=="), "h");
  for (const char* bad :
       {"aGk", "aGl=", "aB==", "a===", "====", "aG k", "aGk=\n", "aGk=aGk=", "-_-_"})
    EXPECT_FALSE(decode_strict_base64(bad)) << bad;
}

}  // namespace
}  // namespace pretrained::server
