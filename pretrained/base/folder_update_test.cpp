#include "pretrained/base/folder_update.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "../../tests/kill_everywhere.h"
#include "pretrained/base/error.h"
#include "pretrained/base/json.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;
using Contents = std::map<std::string, std::string>;

// Everything in a folder but the stage.
Contents contents(const fs::path& folder) {
  Contents found;
  for (auto& entry : fs::recursive_directory_iterator(folder)) {
    std::string name = entry.path().lexically_relative(folder);
    if (entry.is_regular_file() && !name.starts_with(".pretrained-save/"))
      found[name] = read_file(entry.path());
  }
  return found;
}

void write_files(const fs::path& folder, const Contents& files,
                 const std::vector<std::string>& removed = {}) {
  FolderUpdate update(folder);
  for (auto& [name, text] : files) update.add(name).write(text);
  for (auto& name : removed) update.remove(name);
  update.commit();
}

class Update : public testing::Test {
 protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("pretrained-update-" + std::to_string(getpid()));
    prepare();
  }
  void TearDown() override { fs::remove_all(folder); }
  void prepare() {
    fs::remove_all(folder);
    write_files(folder, before);
  }
  // As a process leaves it that was killed with its journal just written.
  void leave_journal() {
    prepare();
    for (int calls = 0; !fs::exists(folder / ".pretrained-save/journal.json"); ++calls)
      ASSERT_TRUE(run_killed(calls, [&] { write_files(folder, after, {"3"}); }));
  }
  fs::path folder;
  const Contents before = {{"1", "a"}, {"2", "b"}, {"3", "c"}, {"same", "s"}},
                 after = {{"1", "A"}, {"2", "B"}, {"same", "s"}, {"sub/new", "N"}};
};

TEST_F(Update, ChangesAllFilesAndLeavesNothingElse) {
  write_files(folder, after, {"3", "none"});
  EXPECT_EQ(contents(folder), after);
  EXPECT_FALSE(fs::exists(folder / ".pretrained-save"));
  {
    FolderUpdate(folder).add("1").write("dropped");
  }
  EXPECT_EQ(contents(folder), after);
  EXPECT_FALSE(fs::exists(folder / ".pretrained-save"));
}

TEST_F(Update, KilledAnywhereItIsOldOrNew) {
  int was_old = 0, was_new = 0;
  auto check = [&] {
    finish_update(folder);
    auto found = contents(folder);
    found == before ? ++was_old : ++was_new;
    EXPECT_TRUE(found == before || found == after) << found.size();
    EXPECT_FALSE(fs::exists(folder / ".pretrained-save/journal.json"));
    write_files(folder, {{"next", "n"}});  // and the next one finds a clean folder
    EXPECT_FALSE(fs::exists(folder / ".pretrained-save"));
  };
  auto work = [&] { write_files(folder, after, {"3"}); };
  EXPECT_GT(kill_everywhere([&] { prepare(); }, work, check), 20);
  EXPECT_GT(was_old, 5);
  EXPECT_GT(was_new, 5);
}

TEST_F(Update, OneKilledWhileFinishingIsFinishedByTheNext) {
  int kills = kill_everywhere([&] { leave_journal(); }, [&] { finish_update(folder); },
                              [&] {
                                write_files(folder, {});
                                EXPECT_EQ(contents(folder), after);
                              });
  EXPECT_GT(kills, 5);
}

TEST_F(Update, WithOneChangedFileEveryReaderSeesOldOrNew) {
  auto only = before;
  only["2"] = "new";
  auto check = [&] {
    auto found = contents(folder);  // nothing is finished first
    EXPECT_TRUE(found == before || found == only);
  };
  kill_everywhere([&] { prepare(); }, [&] { write_files(folder, only); }, check);
}

TEST_F(Update, WritersWaitForEachOther) {
  std::vector<std::thread> writers;
  for (int i = 0; i < 8; ++i)
    writers.emplace_back([&, text = std::string(1000, char('a' + i))] {
      for (int k = 0; k < 5; ++k) write_files(folder, {{"1", text}, {"2", text}});
    });
  for (auto& writer : writers) writer.join();
  auto found = contents(folder);
  EXPECT_EQ(found["1"], found["2"]);
  EXPECT_EQ(found["3"], "c");
}

TEST_F(Update, AJournalFromElsewhereIsRefused) {
  leave_journal();
  fs::path copy = folder.string() + "-copy";
  fs::copy(folder, copy, fs::copy_options::recursive);
  EXPECT_THROW(finish_update(copy), FormatError);
  EXPECT_EQ(contents(copy), before);
  fs::remove_all(copy);
  finish_update(folder);
  EXPECT_EQ(contents(folder), after);
}

TEST_F(Update, HostileJournalsReachNothingOutside) {
  leave_journal();
  fs::path journal = folder / ".pretrained-save/journal.json", victim = folder.string() + "-victim";
  write_file_atomically(victim, "safe");
  Json good = Json::parse(read_file(journal), "journal");
  fs::create_directory_symlink(folder.parent_path(), folder / "up");
  std::string name = victim.filename();
  for (auto* key : {"files", "remove"})
    for (auto& target : {"../" + name, victim.string(), "up/" + name, std::string()}) {
      Json bad = good;
      (*bad.get_if<Json::Object>())[key] = Json::Array{target};
      write_file_atomically(journal, bad.dump());
      EXPECT_THROW(finish_update(folder), FormatError) << target;
      EXPECT_EQ(read_file(victim), "safe");
    }
  for (std::string text : {"", "[]", "{}", R"({"folder": 1, "files": [], "remove": []})"}) {
    write_file_atomically(journal, text);
    EXPECT_THROW(finish_update(folder), FormatError) << text;
  }
  fs::remove(victim);
  EXPECT_THROW(FolderUpdate(folder).add("../x"), FormatError);
}

TEST_F(Update, WhereItMayNotWriteItSaysSo) {
  leave_journal();
  fs::permissions(folder, fs::perms::owner_write, fs::perm_options::remove);
  pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && setuid(65534) != 0) _exit(1);
    try {
      finish_update(folder);
    } catch (const IoError& error) {
      _exit(std::string(error.what()).find("a save was killed") == std::string::npos);
    }
    _exit(2);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  fs::permissions(folder, fs::perms::owner_all);
  EXPECT_EQ(contents(folder), before);
}

}  // namespace
