#include "server/api/commit_reader.h"

#include <gtest/gtest.h>

#include "server/api/common.h"
#include "server/http/http.h"

namespace pretrained::server {
namespace {

CommitReader reader(const std::string& text, CommitLimits limits = {}, size_t step = 1 << 20) {
  auto body = std::make_shared<StringBody>(text);
  return CommitReader(
      [body, step](char* data, size_t size) { return body->read(data, std::min(size, step)); },
      limits);
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
  EXPECT_EQ(file->content, "hi");
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
  limits.file_bytes = 3000;
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
  CommitReader r([&](char* data, size_t size) {
    std::fill(data, data + size, 'a');
    given += size;
    return size;
  });
  EXPECT_THROW(r.header(), HttpError);
  EXPECT_LT(given, uint64_t{16} << 20);
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
