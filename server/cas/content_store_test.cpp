#include <fcntl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "server/cas/cas_fixture.h"

namespace pretrained::server::testing {
namespace {

// What a socket gets: send_file() too.
std::string through_socket(ContentStore& content, const ContentObject& object, uint64_t first,
                           uint64_t last, uint64_t* sent_from_file = nullptr) {
  std::string out;
  content.read(object, first, last,
               {[&](std::string_view bytes) { out += bytes; },
                [&](int fd, uint64_t offset, uint64_t length) {
                  std::string part(length, '\0');
                  EXPECT_EQ(pread(fd, part.data(), length, off_t(offset)), ssize_t(length));
                  out += part;
                  if (sent_from_file) *sent_from_file += length;
                }});
  return out;
}

TEST_F(CasTest, EverySizeComesBackThroughEveryDoor) {
  Hub hub(folder);
  int64_t repo = hub.add_repo("a");
  for (size_t size :
       {0, 1, 100, 8191, 8192, 65536, 131072, 131073, 1 << 20, (1 << 20) + 1, 3000000, 70 << 20}) {
    SCOPED_TRACE(size);
    std::string plain = random_bytes(size, size), xet = random_bytes(size, size + 1);
    auto object = hub.put(repo, plain);
    EXPECT_EQ(object.size, size);
    EXPECT_EQ(object.sha256, sha256_hex(plain));
    EXPECT_EQ(object.xet_hash, XetFile(plain).file.hash);
    EXPECT_TRUE(hub.get(object) == plain);
    XetFile file(xet);
    EXPECT_EQ(put_xet(hub, repo, file), size > 0);
    auto found = hub.content.object(repo, sha256_hex(xet));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->xet_hash, file.file.hash);
    EXPECT_TRUE(hub.get(*found) == xet);
  }
  expect_clean(hub);
  EXPECT_EQ(hub.temporary_files(), 0U);
}

TEST_F(CasTest, RangesAtTheEdgesOfChunks) {
  Hub hub(folder);
  int64_t repo = hub.add_repo("a");
  std::string bytes = random_bytes(900000, 1) + std::string(900000, 'x') + random_bytes(900000, 2);
  auto object = hub.put(repo, bytes);
  std::vector<uint64_t> edges{0, bytes.size() / 2, bytes.size() - 1};
  uint64_t at = 0;
  for (auto& chunk : XetFile(bytes).chunks) {
    at += chunk.size;
    for (uint64_t edge : {at - 1, at, at + 1})
      if (edge < bytes.size()) edges.push_back(edge);
  }
  uint64_t sent = 0;
  for (uint64_t first : edges)
    for (uint64_t last : edges) {
      if (last < first) continue;
      std::string expected = bytes.substr(first, last - first + 1);
      ASSERT_TRUE(through_socket(hub.content, object, first, last, &sent) == expected);
      auto range = hub.content.reconstruct(repo, object.xet_hash, first, last);
      ASSERT_TRUE(range && range->file_size == bytes.size());
      std::string joined;  // as a client puts it together
      for (auto& part : range->parts) {
        auto xorb = hub.content.open_xorb(part.term.xorb);
        std::string records(part.last_byte - part.first_byte + 1, '\0');
        ASSERT_EQ(pread(xorb->file.get(), records.data(), records.size(), off_t(part.first_byte)),
                  ssize_t(records.size()));
        auto table = xet::parse_xorb(records);
        ASSERT_EQ(table.chunks.size(), part.term.end_chunk - part.term.first_chunk);
        ASSERT_EQ(table.raw_size, part.term.raw_length);
        for (auto& chunk : table.chunks) joined += xet::decode_chunk(records, chunk);
      }
      ASSERT_TRUE(joined.substr(range->offset_into_first_range, expected.size()) == expected);
      ASSERT_LT(joined.size(), expected.size() + 2 * xet::kMaxChunk);
    }
  EXPECT_GT(sent, 0U);
  EXPECT_EQ(through_socket(hub.content, object, bytes.size(), bytes.size() + 5), "");
  EXPECT_TRUE(through_socket(hub.content, object, 0, ~uint64_t(0)) == bytes);
  EXPECT_EQ(hub.content.read_bytes(object, 5, ~uint64_t(0)).size(), bytes.size() - 5);
  auto beyond = hub.content.reconstruct(repo, object.xet_hash, bytes.size(), ~uint64_t(0));
  EXPECT_TRUE(beyond && beyond->parts.empty() && beyond->file_size == bytes.size());
}

TEST_F(CasTest, TheSameBytesAreStoredOnceThroughAnyDoor) {
  Hub hub(folder);
  int64_t a = hub.add_repo("a"), b = hub.add_repo("b");
  std::string bytes = random_bytes(100 << 20, 7);
  put_xet(hub, a, XetFile(bytes));
  uint64_t once = hub.stored();
  EXPECT_LT(once, bytes.size() + bytes.size() / 100);
  // The whole file again, and a changed one: only chunks around the changes are new.
  EXPECT_EQ(hub.put(b, bytes).xet_hash, XetFile(bytes).file.hash);
  EXPECT_EQ(hub.stored(), once);
  std::string changed = bytes.substr(0, 30 << 20) + "inserted" + bytes.substr(30 << 20);
  changed[90 << 20] ^= 1;
  auto object = hub.put(b, changed);
  EXPECT_TRUE(hub.get(object) == changed);
  EXPECT_LT(hub.stored() - once, 1U << 20);
  // Repeats within one file.
  uint64_t before = hub.stored();
  std::string twice = random_bytes(5 << 20, 8);
  twice += twice;
  EXPECT_TRUE(hub.get(hub.put(a, twice)) == twice);
  EXPECT_LT(hub.stored() - before, 6U << 20);
  // Many equal chunks make no long list.
  std::string zeros(200 << 20, '\0');
  auto flat = hub.put(a, zeros);
  EXPECT_EQ(sha256_hex(hub.get(flat)), flat.sha256);
  EXPECT_LT(hub.content.reconstruct(a, flat.xet_hash, 0, ~uint64_t(0))->parts.size(), 500U);
  expect_clean(hub);
}

TEST_F(CasTest, EightUploadsOfOneObjectStoreItOnce) {
  Hub hub(folder);
  int64_t repo = hub.add_repo("a");
  std::string bytes = random_bytes(20 << 20, 3);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] { EXPECT_EQ(hub.put(repo, bytes).size, bytes.size()); });
  for (auto& thread : threads) thread.join();
  EXPECT_LT(hub.stored(), bytes.size() + bytes.size() / 100);
  EXPECT_EQ(hub.count("objects"), 1);
  EXPECT_EQ(hub.temporary_files(), 0U);
  EXPECT_EQ(hub.content.used_bytes(repo), bytes.size());
  std::string xet = random_bytes(20 << 20, 4);
  XetFile file(xet);
  threads.clear();
  std::atomic<int> fresh = 0;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      fresh += hub.content.put_xorb(repo, file.xorbs[0].first, reader(file.xorbs[0].second));
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(fresh, 1);
  expect_clean(hub);
}

TEST_F(CasTest, WrongUploadsAreRefusedAndLeaveNothing) {
  Hub hub(folder);
  int64_t repo = hub.add_repo("a");
  std::string bytes = random_bytes(5 << 20, 1), sha256 = sha256_hex(bytes);
  auto put = [&](const std::string& sum, uint64_t size) {
    hub.content.put_object(repo, sum, size, reader(bytes));
  };
  EXPECT_THROW(put(sha256_hex("other"), bytes.size()), FormatError);
  EXPECT_THROW(put(sha256, bytes.size() + 1), FormatError);
  EXPECT_THROW(put(sha256, bytes.size() - 1), FormatError);
  EXPECT_THROW(put(sha256, ~uint64_t(0)), FormatError);
  EXPECT_THROW(put("../../x", bytes.size()), FormatError);
  size_t given = 0;
  EXPECT_THROW(hub.content.put_object(repo, sha256, bytes.size(),
                                      [&](char*, size_t size) -> size_t {
                                        if ((given += size) > 2 << 20) throw IoError("reset");
                                        return size;
                                      }),
               IoError);

  XetFile file(bytes);
  auto& [hash, xorb] = file.xorbs[0];
  EXPECT_THROW(hub.content.put_xorb(repo, xet::chunk_hash("x"), reader(xorb)), FormatError);
  for (size_t at : {size_t(0), size_t(1), size_t(4), size_t(6), xorb.size() / 2, xorb.size() - 1}) {
    std::string damaged = xorb;
    damaged[at] ^= 0x15;
    EXPECT_THROW(hub.content.put_xorb(repo, hash, reader(damaged)), FormatError) << at;
  }
  EXPECT_THROW(hub.content.put_xorb(repo, hash, reader(xorb.substr(0, xorb.size() - 1))),
               FormatError);
  EXPECT_THROW(hub.content.put_xorb(repo, hash, reader("")), FormatError);
  std::string endless(1 << 20, '\0');
  EXPECT_THROW(hub.content.put_xorb(repo, hash,
                                    [&](char* out, size_t size) {
                                      std::memset(out, 0, size);
                                      return size;
                                    }),
               FormatError);
  expect_empty(hub);
}

TEST_F(CasTest, WrongShardsAreRefusedWhole) {
  Hub hub(folder);
  int64_t repo = hub.add_repo("a");
  XetFile good(random_bytes(3 << 20, 1));
  for (auto& [hash, bytes] : good.xorbs) hub.content.put_xorb(repo, hash, reader(bytes));
  XetFile other(random_bytes(1 << 20, 2));
  for (auto& [hash, bytes] : other.xorbs) hub.content.put_xorb(repo, hash, reader(bytes));
  auto refused = [&](const std::function<void(xet::ShardFile&)>& change) {
    xet::Shard shard{.files = {other.file, good.file}};
    change(shard.files[1]);
    EXPECT_THROW(hub.content.put_shard(repo, xet::serialize_shard(shard)), FormatError);
    for (auto* table : {"files", "objects", "repo_objects"}) EXPECT_EQ(hub.count(table), 0);
  };
  refused([](auto& f) { f.hash = xet::chunk_hash("x"); });
  refused([](auto& f) { f.terms[0].range_hash = xet::chunk_hash("x"); });
  refused([](auto& f) { f.terms[0].xorb = xet::chunk_hash("x"); });
  refused([](auto& f) { f.terms[0].size ^= 1; });
  refused([](auto& f) { f.terms[0].chunk_begin += 1; });
  refused([](auto& f) { f.terms[0].chunk_end += 1; });
  refused([](auto& f) { f.terms[0].chunk_end = 0xFFFFFFFF; });
  refused([](auto& f) { f.terms.push_back(f.terms[0]); });
  refused([](auto& f) { f.terms.clear(); });
  refused([](auto& f) { f.has_verification = false; });
  refused([](auto& f) { f.sha256 = sha256_hex("other"); });
  EXPECT_THROW(hub.content.put_shard(repo, ""), FormatError);
  EXPECT_THROW(hub.content.put_shard(repo, std::string(48, 'x')), FormatError);
  std::string shard = good.shard();
  for (size_t i = 0; i < shard.size(); ++i) {
    std::string damaged = shard;
    damaged[i] ^= 0x41;
    try {
      hub.content.put_shard(repo, damaged);  // some bytes mean nothing
    } catch (const FormatError&) {
    }
  }
  EXPECT_LE(hub.count("files"), 1);
  // Without a SHA-256 it is computed, and a claim of another sum for the same file is refused.
  xet::ShardFile bare = good.file;
  bare.sha256.reset();
  hub.content.put_shard(repo, xet::serialize_shard({.files = {bare}}));
  EXPECT_TRUE(hub.content.object(repo, *good.file.sha256));
  bare.sha256 = sha256_hex("other");
  EXPECT_THROW(hub.content.put_shard(repo, xet::serialize_shard({.files = {bare}})), FormatError);
  EXPECT_FALSE(hub.content.object(repo, sha256_hex("other")));
  expect_clean(hub);
}

TEST_F(CasTest, AXorbIsNoReadRightForOthers) {
  Hub hub(folder);
  int64_t mine = hub.add_repo("mine"), theirs = hub.add_repo("theirs");
  std::string bytes = random_bytes(3 << 20, 1);
  XetFile file(bytes);
  put_xet(hub, mine, file);
  std::string sha256 = sha256_hex(bytes);
  // Who knows all hashes still has no right to them; the answer is that of an unknown xorb.
  EXPECT_THROW(hub.content.put_shard(theirs, file.shard()), FormatError);
  EXPECT_THROW(hub.content.put_shard(theirs, file.shard(), {}, nobody), FormatError);
  EXPECT_FALSE(hub.content.object(theirs, sha256));
  EXPECT_FALSE(hub.content.reconstruct(theirs, file.file.hash, 0, 10));
  EXPECT_TRUE(hub.content.reconstruct(mine, file.file.hash, 0, 10));
  EXPECT_FALSE(hub.content.query_chunk(theirs, file.chunks[0].hash, nobody));
  EXPECT_THROW(hub.commit(theirs, sha256), NotFoundError);
  EXPECT_FALSE(hub.content.touch(theirs, sha256));
  EXPECT_FALSE(hub.content.share(theirs, mine, sha256));
  EXPECT_THROW(hub.content.put_xorb(theirs, file.xorbs[0].first, reader("short")), FormatError);
  EXPECT_THROW(hub.content.put_shard(theirs, file.shard()), FormatError);
  // Who may read `mine` needs not send the bytes again; who has the bytes neither needs that.
  auto reads_mine = [&](int64_t repo) { return repo == mine; };
  EXPECT_TRUE(hub.content.put_shard(theirs, file.shard(), {}, reads_mine));
  int64_t third = hub.add_repo("third");
  EXPECT_FALSE(hub.content.put_xorb(third, file.xorbs[0].first, reader(file.xorbs[0].second)));
  EXPECT_TRUE(hub.content.put_shard(third, file.shard()));
}

TEST_F(CasTest, DedupAnswersShowOnlyWhatMayBeRead) {
  Hub hub(folder);
  int64_t secret = hub.add_repo("secret"), open = hub.add_repo("open"), me = hub.add_repo("me");
  std::string bytes = random_bytes(6 << 20, 1);
  XetFile file(bytes);
  put_xet(hub, secret, file);
  auto reads_open = [&](int64_t repo) { return repo == open; };
  xet::Hash first = file.chunks[0].hash;
  EXPECT_FALSE(hub.content.query_chunk(me, first, reads_open));
  EXPECT_FALSE(hub.content.query_chunk(me, xet::chunk_hash("x"), everybody));
  // The public repository has the first half: it lies in the same xorb.
  uint64_t half = 0;
  size_t chunks = file.chunks.size() / 2;
  for (size_t i = 0; i < chunks; ++i) half += file.chunks[i].size;
  hub.put(open, bytes.substr(0, half));
  auto answer = hub.content.query_chunk(me, first, reads_open);
  ASSERT_TRUE(answer);
  auto shard = xet::parse_shard(*answer);
  ASSERT_TRUE(shard.footer && !shard.footer->key.is_zero());
  EXPECT_GT(shard.footer->expires, uint64_t(now_ms()) / 1000 + 3000);
  ASSERT_EQ(shard.xorbs.size(), 1U);
  EXPECT_EQ(shard.xorbs[0].hash, file.xorbs[0].first);
  ASSERT_EQ(shard.xorbs[0].chunks.size(), file.chunks.size());
  for (size_t i = 0; i < file.chunks.size(); ++i) {
    bool shown =
        shard.xorbs[0].chunks[i].hash == xet::keyed_hash(file.chunks[i].hash, shard.footer->key);
    EXPECT_EQ(shown, i < chunks) << i;
  }
  auto again = xet::parse_shard(*hub.content.query_chunk(me, first, reads_open));
  EXPECT_NE(again.footer->key, shard.footer->key);
  // It was promised: now a file of it may be registered, and the collector leaves it.
  XetFile part(bytes.substr(0, half));
  part.file.terms[0].xorb = file.xorbs[0].first;
  EXPECT_TRUE(hub.content.put_shard(me, part.shard()));
  EXPECT_TRUE(hub.get(*hub.content.object(me, *part.file.sha256)) == bytes.substr(0, half));
}

TEST_F(CasTest, ABrokenXetUploadCanGoOn) {
  Hub hub(folder);
  int64_t repo = hub.add_repo("a"), other = hub.add_repo("b");
  XetFile file(random_bytes(3 << 20, 1));
  hub.content.put_xorb(repo, file.xorbs[0].first, reader(file.xorbs[0].second));
  EXPECT_TRUE(hub.content.query_chunk(repo, file.chunks[0].hash, everybody));
  EXPECT_FALSE(hub.content.query_chunk(other, file.chunks[0].hash, everybody));
}

TEST_F(CasTest, OneObjectMayHaveSeveralXetHashes) {
  Hub hub(folder);
  int64_t repo = hub.add_repo("a");
  std::string bytes = random_bytes(200000, 1);
  auto canonical = hub.put(repo, bytes);
  // A client that cuts elsewhere.
  XetFile alias("");
  xet::XorbWriter writer;
  for (size_t at = 0; at < bytes.size(); at += 50000) {
    auto& chunk = writer.append(std::string_view(bytes).substr(at, 50000));
    alias.chunks.push_back({chunk.hash, chunk.size});
  }
  alias.close(writer);
  alias.file.hash = xet::file_hash(alias.chunks);
  alias.file.sha256 = sha256_hex(bytes);
  EXPECT_TRUE(put_xet(hub, repo, alias));
  EXPECT_FALSE(put_xet(hub, repo, alias));
  EXPECT_EQ(hub.content.object(repo, canonical.sha256)->xet_hash, canonical.xet_hash);
  EXPECT_NE(alias.file.hash, canonical.xet_hash);
  EXPECT_TRUE(hub.content.reconstruct(repo, alias.file.hash, 0, 9));
  EXPECT_TRUE(hub.content.reconstruct(repo, canonical.xet_hash, 0, 9));
  expect_clean(hub);
}

TEST_F(CasTest, ObjectsOfRepositories) {
  Hub hub(folder);
  int64_t a = hub.add_repo("a"), b = hub.add_repo("b");
  auto one = hub.put(a, "one"), two = hub.put(a, "two");
  auto found = hub.content.objects(a, {one.sha256, sha256_hex("none"), two.sha256});
  EXPECT_TRUE(found[0] && !found[1] && found[2]);
  EXPECT_EQ(found[2]->xet_hash, two.xet_hash);
  EXPECT_TRUE(hub.content.share(a, b, one.sha256));
  EXPECT_EQ(hub.content.used_bytes(a), 6U);
  EXPECT_EQ(hub.content.used_bytes(b), 3U);
  hub.commit(b, one.sha256);
  try {
    hub.commit(b, two.sha256);
    FAIL();
  } catch (const NotFoundError& error) {
    EXPECT_NE(std::string(error.what()).find(two.sha256), std::string::npos);
  }
  hub.expire();
  EXPECT_FALSE(hub.content.object(a, one.sha256));  // about to go
  EXPECT_TRUE(hub.content.object(b, one.sha256));
  EXPECT_TRUE(hub.content.touch(a, one.sha256));
  EXPECT_TRUE(hub.content.object(a, one.sha256));
  EXPECT_THROW(hub.content.object(a, "nonsense"), FormatError);
}

TEST_F(CasTest, MultipartUploads) {
  Hub hub(folder);
  int64_t repo = hub.add_repo("a");
  std::string bytes = random_bytes(2500000, 1), sha256 = sha256_hex(bytes);
  auto part = [&](uint32_t number) {
    return std::string_view(bytes).substr((number - 1) * 1000000, 1000000);
  };
  std::string upload = hub.content.start_multipart(repo, sha256, bytes.size(), 1000000);
  EXPECT_NE(hub.content.put_part(upload, 3, reader(part(3))), "");
  hub.content.put_part(upload, 1, reader(part(2)));  // replaced below
  EXPECT_THROW(hub.content.complete_multipart(upload), FormatError);
  EXPECT_THROW(hub.content.put_part(upload, 2, reader(part(3))), FormatError);
  EXPECT_THROW(hub.content.put_part(upload, 3, reader(part(2))), FormatError);
  EXPECT_THROW(hub.content.put_part(upload, 0, reader(part(1))), FormatError);
  EXPECT_THROW(hub.content.put_part(upload, 4, reader(part(1))), FormatError);
  std::thread beside([&] { hub.content.put_part(upload, 1, reader(part(1))); });
  hub.content.put_part(upload, 2, reader(part(2)));
  beside.join();
  EXPECT_TRUE(hub.get(hub.content.complete_multipart(upload)) == bytes);
  EXPECT_EQ(hub.content.complete_multipart(upload).sha256, sha256);  // the answer was lost
  for (std::string name : {"", "x", "../../x-1-ab", "0-1-2"})
    EXPECT_THROW(hub.content.put_part(name, 1, reader("x")), NotFoundError) << name;
  EXPECT_THROW(hub.content.start_multipart(repo, sha256, 1 << 30, 1), FormatError);
  EXPECT_THROW(hub.content.start_multipart(repo, sha256, 10, 0), FormatError);
  std::string wrong = hub.content.start_multipart(repo, sha256_hex("x"), 3, 2);
  hub.content.put_part(wrong, 1, reader("ab"));
  hub.content.put_part(wrong, 2, reader("c"));
  EXPECT_THROW(hub.content.complete_multipart(wrong), FormatError);
  EXPECT_THROW(hub.content.complete_multipart(wrong), NotFoundError);
  expect_clean(hub);
}

TEST_F(CasTest, MultipartUploadsEndWithTheirLease) {
  Hub hub(folder, 0s);
  int64_t repo = hub.add_repo("a");
  std::string upload = hub.content.start_multipart(repo, sha256_hex("abc"), 3, 2);
  hub.content.put_part(upload, 1, reader("ab"));
  std::this_thread::sleep_for(5ms);
  hub.content.collect();
  EXPECT_THROW(hub.content.put_part(upload, 2, reader("c")), NotFoundError);
  EXPECT_EQ(hub.temporary_files(), 0U);
}

TEST_F(CasTest, DamageIsAnErrorAndNeverWrongBytes) {
  std::string name, bytes = random_bytes(1 << 20, 1) + std::string(1 << 20, 'x');
  int64_t repo;
  ContentObject object;
  {
    Hub hub(folder);
    repo = hub.add_repo("a");
    object = hub.put(repo, bytes);
    hub.blobs.each("xorbs", [&](const std::string& blob, uint64_t) { name = blob; });
    std::string path = hub.blobs.local_path(name).string();
    int fd = open(path.c_str(), O_RDWR);
    char byte;
    ASSERT_EQ(pread(fd, &byte, 1, 500000), 1);
    byte ^= 1;
    ASSERT_EQ(pwrite(fd, &byte, 1, 500000), 1);
    close(fd);
  }
  Hub hub(folder);
  EXPECT_THROW(hub.get(object), DamagedContent);
  EXPECT_THROW(through_socket(hub.content, object, 0, ~uint64_t(0)), DamagedContent);
  EXPECT_THROW(through_socket(hub.content, object, 0, ~uint64_t(0)), DamagedContent);
  EXPECT_TRUE(through_socket(hub.content, object, 0, 99) == bytes.substr(0, 100));
  EXPECT_TRUE(hub.content.fsck(false, {}).empty());
  EXPECT_EQ(hub.content.fsck(true, {}).size(), 2U);  // the chunk, the object
  fs::resize_file(hub.blobs.local_path(name), 1000);
  EXPECT_FALSE(hub.content.fsck(false, {}).empty());
  hub.blobs.remove(name);
  Hub fresh(folder);
  EXPECT_THROW(fresh.get(object), DamagedContent);
  EXPECT_FALSE(fresh.content.fsck(false, {}).empty());
}

// What fsck found damaged is stored again when it comes again, and nothing else is.
TEST_F(CasTest, DamageIsRepairedByWhoeverUploadsAgain) {
  std::string bytes = random_bytes(1 << 20, 1), other = random_bytes(1 << 20, 2);
  auto damage = [](Hub& hub, const std::string& name) {
    std::string path = hub.blobs.local_path(name).string();
    FileDescriptor file(open(path.c_str(), O_RDWR));
    char byte;
    ASSERT_EQ(pread(file.get(), &byte, 1, 500000), 1);
    byte ^= 1;
    ASSERT_EQ(pwrite(file.get(), &byte, 1, 500000), 1);
  };
  for (bool as_xet : {false, true}) {
    fs::remove_all(folder);
    fs::create_directories(folder);
    int64_t repo;
    {
      Hub hub(folder);
      repo = hub.add_repo("a");
      std::string name;
      hub.put(repo, bytes);
      hub.blobs.each("xorbs", [&](const std::string& blob, uint64_t) { name = blob; });
      hub.put(repo, other);
      hub.commit(repo, sha256_hex(bytes));
      damage(hub, name);
    }
    Hub hub(folder);
    XetFile file(bytes);
    EXPECT_TRUE(hub.content.touch(repo, sha256_hex(bytes)));
    EXPECT_FALSE(hub.content.fsck(true, {}).empty());
    EXPECT_FALSE(hub.content.touch(repo, sha256_hex(bytes)));
    EXPECT_TRUE(hub.content.touch(repo, sha256_hex(other)));
    EXPECT_FALSE(hub.content.query_chunk(repo, file.chunks[0].hash, everybody));
    EXPECT_THROW(hub.content.put_shard(repo, file.shard(), {}, everybody), FormatError);
    if (as_xet)
      EXPECT_TRUE(hub.content.put_xorb(repo, file.xorbs[0].first, reader(file.xorbs[0].second)));
    else
      hub.put(repo, bytes);
    EXPECT_TRUE(hub.get(*hub.content.object(repo, sha256_hex(bytes))) == bytes);
    EXPECT_TRUE(hub.content.touch(repo, sha256_hex(bytes)));
    expect_clean(hub);
    EXPECT_FALSE(hub.content.put_xorb(repo, file.xorbs[0].first, reader(file.xorbs[0].second)));
    EXPECT_EQ(hub.count("xorbs"), 2);
    EXPECT_EQ(hub.count("dropped_blobs"), 1);
  }
}

// Its chunks lie in a xorb of another file, which is damaged: it gets its own.
TEST_F(CasTest, DamagedFilesGetOtherXorbs) {
  std::string bytes = random_bytes(1 << 20, 1), longer = bytes + random_bytes(1 << 20, 2);
  int64_t repo;
  {
    Hub hub(folder);
    repo = hub.add_repo("a");
    hub.put(repo, longer);
    hub.put(repo, bytes);
    hub.blobs.each("xorbs", [&](const std::string& blob, uint64_t) {
      fs::resize_file(hub.blobs.local_path(blob), 1000);
    });
  }
  Hub hub(folder);
  EXPECT_FALSE(hub.content.fsck(false, {}).empty());
  hub.put(repo, bytes);
  EXPECT_TRUE(hub.get(*hub.content.object(repo, sha256_hex(bytes))) == bytes);
  EXPECT_THROW(hub.get(*hub.content.object(repo, sha256_hex(longer))), DamagedContent);
  hub.put(repo, longer);
  EXPECT_TRUE(hub.get(*hub.content.object(repo, sha256_hex(longer))) == longer);
}

}  // namespace
}  // namespace pretrained::server::testing
