#include "pretrained/isolation/isolation.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <torch/torch.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "../../examples/resnet_model/modeling_resnet.h"
#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/model/auto.h"
#include "pretrained/model/weights.h"

// The model's code is compiled once for both sides: the same bytes run here and isolated.

namespace isolation_test {

namespace fs = std::filesystem;
using namespace pretrained;

constexpr auto kTests = PRETRAINED_TESTS_DIR;

fs::path& root() {
  static fs::path path =
      fs::temp_directory_path() / ("pretrained-isolation-" + std::to_string(getpid()));
  return path;
}

// A folder of tests/models as a repository with weights.
fs::path make_hostile() {
  fs::path folder = root() / "hostile";
  fs::copy(fs::path(kTests) / "models/hostile", folder, fs::copy_options::recursive);
  save_file({{"weight", torch::tensor({2.f, 3.f})}}, folder / "model.safetensors");
  return folder;
}
fs::path make(const std::string& name) {
  fs::path folder = root() / name;
  fs::path source = fs::path(kTests) / "models" / name;
  torch::manual_seed(1);
  auto config = AutoConfig::from_pretrained(source, {.trust_remote_code = true});
  AutoModel::from_config(config)->save_pretrained(folder);
  return folder;
}
fs::path make_resnet() {
  ResnetConfig::register_for_auto_class();
  ResnetModelForImageClassification::register_for_auto_class("AutoModelForImageClassification");
  torch::manual_seed(2);
  ResnetModelForImageClassification model(ResnetConfig{.layers = {1, 1, 1, 1},
                                                       .num_classes = 10,
                                                       .stem_width = 32,
                                                       .stem_type = "deep",
                                                       .avg_down = true});
  model.save_pretrained(root() / "resnet");
  return root() / "resnet";
}

// In memory: as mapped from the file the weights are aligned otherwise, and products differ in the
// last bit.
FromPretrained here() { return {.trust_remote_code = true, .use_mmap = false}; }
FromPretrained isolated(IsolationLimits limits = {}) {
  return {.isolation = Isolation::process, .isolation_limits = limits};
}
FromPretrained attack(const std::string& what, const std::string& text = "",
                      IsolationLimits limits = {}) {
  auto options = isolated(limits);
  options.config_overrides = {
      {"attack", what}, {"text", text}, {"canary", (root() / "canary").string()}};
  return options;
}

template <class E, class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another error: " << error.what();
  }
  return "no error";
}

bool same(const NamedTensors& a, const NamedTensors& b) {
  if (a.names() != b.names()) return false;
  for (auto& [name, tensor] : a)
    if (!torch::equal(tensor, b[name]) || tensor.scalar_type() != b[name].scalar_type())
      return false;
  return true;
}

bool makes_user_namespaces() {
  pid_t child = fork();
  if (child == 0)
    _exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 ||
          mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0);
  int status = 0;
  waitpid(child, &status, 0);
  return status == 0;
}

class Isolated : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    fs::remove_all(root());
    fs::create_directories(root());
    setenv("PRETRAINED_CODE_CACHE", (fs::temp_directory_path() / "pretrained-test-code").c_str(),
           0);
    write_file_atomically(root() / "canary", "untouched");
  }
  static void TearDownTestSuite() {
    EXPECT_EQ(read_file(root() / "canary"), "untouched");
    EXPECT_FALSE(fs::exists(root() / "canary.new"));
    EXPECT_FALSE(fs::exists("/tmp/pretrained-hostile-canary"));
    EXPECT_FALSE(fs::exists("/tmp/pretrained-hostile-canary.new"));
    fs::remove_all(root());
  }
  static const fs::path& hostile() {
    static fs::path folder = make_hostile();
    return folder;
  }
  static const fs::path& mixed() {
    static fs::path folder = make("mixed");
    return folder;
  }
  static const fs::path& resnet() {
    static fs::path folder = make_resnet();
    return folder;
  }
};

TEST_F(Isolated, CodeCanOnlyCompute) {
  auto model = AutoModel::from_pretrained(hostile(), attack(""));
  c10::InferenceMode guard;
  auto outputs = model(torch::ones({2}));
  EXPECT_TRUE(torch::equal(outputs["output"], torch::tensor({2.f, 3.f})));
  std::string tried;
  for (int64_t i = 0; i < outputs["tried"].size(0); ++i)
    tried += char(outputs["tried"][i].item<int64_t>());
  std::string refused(47, '.');
  if (!makes_user_namespaces())  // then that a file is there can be asked (docs/security.md)
    for (auto& [at, name] : std::map<size_t, std::string, std::greater<>>{
             {42, "stat passwd"}, {43, "stat canary"}, {44, "stat parent"}})
      refused.insert(at, name);
  EXPECT_EQ(tried, refused + "|" + refused + "|" + refused)
      << "what a name stands for was possible";
}

TEST_F(Isolated, AModelThatEndsIsATypedErrorAndNothingElse) {
  IsolationLimits limits{.call_timeout = std::chrono::seconds(20)};
  for (auto [what, why] : std::map<std::string, std::string>{{"abort", "Abort"},
                                                             {"crash", "Segmentation"},
                                                             {"exit", "exit code 7"},
                                                             {"throw an int", "Abort"},
                                                             {"close", "process"}}) {
    auto model = AutoModel::from_pretrained(hostile(), attack(what, "", limits));
    EXPECT_TRUE(torch::equal(model(torch::ones({1}))["output"], torch::tensor({2.f, 3.f})));
    std::string first = error_of<ModelProcessError>([&] { model(torch::ones({2})); });
    EXPECT_NE(first.find(why), first.npos) << what << ": " << first;
    EXPECT_EQ(error_of<ModelProcessError>([&] { model(torch::ones({1})); }), first);
    EXPECT_NE(error_of<ModelProcessError>([&] {
                AutoModel::from_pretrained(hostile(), attack(what, "constructor", limits));
              }).find(why),
              std::string::npos);
  }
}

TEST_F(Isolated, TimeAndMemoryAreBounded) {
  auto hangs = AutoModel::from_pretrained(
      hostile(), attack("hang", "", {.call_timeout = std::chrono::seconds(30)}));
  EXPECT_NE(error_of<ModelProcessError>([&] { hangs(torch::ones({2})); }).find("did not answer"),
            std::string::npos);
  auto eats =
      AutoModel::from_pretrained(hostile(), attack("eat", "", {.memory_bytes = 4ull << 30}));
  EXPECT_NE(error_of<Error>([&] { eats(torch::ones({2})); }).find("out of memory"),
            std::string::npos);
  EXPECT_TRUE(torch::equal(eats(torch::ones({1}))["output"], torch::tensor({2.f, 3.f})));
}

TEST_F(Isolated, WhatItSaysIsNotBelieved) {
  IsolationLimits limits{.call_timeout = std::chrono::seconds(30)};
  auto output = [](const std::string& fields) {
    return R"({"given": true, "outputs": [{"name": "x", "dtype": "float32", "grad": false, )" +
           fields + "}]}";
  };
  std::string good = R"("shape": [2], "offset": 0)";
  for (auto& text : std::vector<std::string>{
           "{}", "[]", "null", "{", std::string(5000, '['), R"({"given": 1, "outputs": []})",
           R"({"given": true, "outputs": {}})", output(R"("shape": [-1], "offset": 0)"),
           output(R"("shape": [4611686018427387904, 4], "offset": 0)"),
           output(R"("shape": [1099511627776], "offset": 0)"), output(R"("shape": [2])"),
           output(R"("shape": [2], "offset": -64)"), output(R"("shape": [2.5], "offset": 0)"),
           output(R"("shape": [10000000], "offset": 0)"),
           output(good + R"(}, {"name": "x", "dtype": "float32", "grad": false, )" + good),
           output(good + R"(}, {"name": "\u001b[31m", "dtype": "float32", "grad": false, )" + good),
           output(good + R"(}, {"name": "y", "dtype": "nonsense", "grad": false, )" + good),
           R"({"given": false, "outputs": [{"name": "x", "dtype": "float32", "grad": false,
               "shape": [17179869184], "offset": 0}]})"}) {
    auto model = AutoModel::from_pretrained(hostile(), attack("message", text, limits));
    std::string error = error_of<ModelProcessError>([&] { model(torch::ones({2})); });
    EXPECT_NE(error.find("broke the rules"), error.npos) << text << ": " << error;
    EXPECT_EQ(error_of<ModelProcessError>([&] { model(torch::ones({1})); }), error);
  }
  for (auto& bytes : {std::string(100, '\xff'), std::string(1 << 20, 'x')}) {
    auto model = AutoModel::from_pretrained(hostile(), attack("say", bytes.substr(0, 9), limits));
    EXPECT_NE(error_of<ModelProcessError>([&] { model(torch::ones({2})); }), "no error");
  }
}

TEST_F(Isolated, GivesTheSameBits) {
  auto x = torch::rand({2, 3, 64, 64});
  for (auto dtype : {"float32", "bfloat16"}) {
    auto ours = here(), theirs = isolated();
    ours.dtype = theirs.dtype = dtype;
    auto a = AutoModelForImageClassification::from_pretrained(resnet(), ours);
    auto b = AutoModelForImageClassification::from_pretrained(resnet(), theirs);
    auto input = x.to(a->dtype());
    EXPECT_EQ(b->dtype(), a->dtype());
    EXPECT_TRUE(same(a(input), b(input))) << dtype;
    {
      c10::InferenceMode guard;
      EXPECT_TRUE(same(a(input), b(input))) << dtype;
      EXPECT_TRUE(same(a(input.narrow(0, 0, 1)), b(input.narrow(0, 0, 1))));
    }
    a->train();
    b->train();
    torch::NoGradGuard guard;
    EXPECT_TRUE(same(a(input), b(input))) << dtype;
    EXPECT_TRUE(same(a->state_dict(), b->state_dict())) << "running statistics are seen here";
  }
}

TEST_F(Isolated, TrainsAsItWouldHere) {
  auto a = AutoModelForImageClassification::from_pretrained(resnet(), here());
  auto b = AutoModelForImageClassification::from_pretrained(resnet(), isolated());
  torch::optim::SGD first(a->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9));
  torch::optim::SGD second(b->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9));
  a->train();
  b->train();
  for (int step = 0; step < 5; ++step) {
    auto x = torch::rand({4, 3, 32, 32}), labels = torch::randint(10, {4});
    for (auto* optimizer : {&first, &second}) {
      auto& model = optimizer == &first ? a : b;
      // Two backward passes add up.
      if (step != 3) optimizer->zero_grad();
      auto outputs = model({{"tensor", x}, {"labels", labels}});
      (outputs["loss"] + outputs["logits"].square().mean()).backward();
      optimizer->step();
    }
  }
  EXPECT_TRUE(same(a->state_dict(), b->state_dict()));
}

TEST_F(Isolated, StateIsTheModelsOwn) {
  auto a = AutoModel::from_pretrained(mixed(), here());
  auto b = AutoModel::from_pretrained(mixed(), isolated());
  EXPECT_EQ(a->num_parameters(), b->num_parameters());
  EXPECT_EQ(a->num_parameters(true), b->num_parameters(true));
  EXPECT_TRUE(same(a->state_dict(), b->state_dict()));
  for (auto& model : {a, b}) {
    model->train();
    model->named_parameters()["norm.weight"].requires_grad_(false);
  }
  auto x = torch::rand({3, 4}), scale = torch::tensor(2.f);
  std::vector<torch::Tensor> seen;
  for (auto& model : {a, b}) {
    auto input = x.clone().requires_grad_();
    // Two graphs at once, used in the other order; one input without a gradient.
    auto one = model({{"x", input}, {"scale", scale}}), two = model(input * 2);
    EXPECT_FALSE(one["best"].requires_grad());
    (two["sum"] * 3 + one["hidden"].square().sum()).backward();
    seen.push_back(input.grad());
    torch::optim::SGD(model->parameters(), 0.01).step();
    EXPECT_ANY_THROW(one["sum"].backward());
  }
  EXPECT_TRUE(torch::equal(seen[0], seen[1]));
  auto left = a->named_parameters(), right = b->named_parameters();
  for (auto& item : left) {
    auto &mine = item.value().grad(), &theirs = right[item.key()].grad();
    ASSERT_EQ(mine.defined(), theirs.defined()) << item.key();
    EXPECT_TRUE(!mine.defined() || torch::allclose(mine, theirs, 1e-6, 1e-6)) << item.key();
  }
  for (auto& [name, tensor] : a->state_dict())
    EXPECT_TRUE(torch::allclose(tensor, b->state_dict()[name], 1e-6, 1e-6)) << name;
}

TEST_F(Isolated, SavesAndLoadsItsState) {
  auto a = AutoModel::from_pretrained(mixed(), here());
  auto b = AutoModel::from_pretrained(mixed(), isolated());
  auto x = torch::rand({3, 4});
  {
    torch::NoGradGuard guard;
    for (auto& parameter : a->parameters()) parameter.add_(0.25);
  }
  EXPECT_TRUE(b->load_state_dict(a->state_dict()).all_matched());
  EXPECT_TRUE(same(a(x), b(x)));
  b->save_pretrained(root() / "saved");
  EXPECT_EQ(read_file(root() / "saved/mixed.h"), read_file(mixed() / "mixed.h"));
  EXPECT_TRUE(same(AutoModel::from_pretrained(root() / "saved", here())(x), a(x)));
  EXPECT_TRUE(same(AutoModel::from_pretrained(root() / "saved", isolated())(x), a(x)));
  EXPECT_EQ(b.config().get<std::string>("model_type"), "mixed");
}

TEST_F(Isolated, ItsModulesAreTrainedOneByOne) {
  auto a = AutoModel::from_pretrained(make("parts"), here());
  auto b = AutoModel::from_pretrained(root() / "parts", isolated());
  torch::NoGradGuard guard;
  auto compare = [&](const char* when) {
    auto x = torch::rand({3, 4});
    auto outputs = b(x);
    EXPECT_TRUE(same(a(x), outputs)) << when;
    EXPECT_EQ(outputs["drop"].any().item<bool>(), !b->named_children()["drop"]->is_training())
        << "a module without tensors";
    EXPECT_TRUE(same(a->state_dict(), b->state_dict())) << when;
  };
  auto each = [&](auto&& change) {
    for (auto& model : {a, b}) change(*model);
  };
  compare("as loaded");
  each([](Model& model) { model.train(); });
  compare("its own train() keeps one module in evaluation");
  each([](Model& model) { model.named_children()["norm"]->eval(); });
  compare("one of them in evaluation");
  each([](Model& model) { model.eval(), model.named_children()["drop"]->train(); });
  compare("one of them in training");
  each([](Model& model) { model.eval(); });
  compare("none");
}

TEST_F(Isolated, AGraphMayBeUsedAgainWhereItIsRetained) {
  auto a = AutoModel::from_pretrained(mixed(), here());
  auto b = AutoModel::from_pretrained(mixed(), isolated());
  auto x = torch::rand({3, 4});
  std::vector<torch::Tensor> seen;
  for (auto& model : {a, b}) {
    auto input = x.clone().requires_grad_();
    auto outputs = model(input);
    outputs["sum"].backward({}, /*retain_graph=*/true);
    outputs["hidden"].square().sum().backward({}, /*retain_graph=*/true);
    outputs["sum"].backward();
    seen.push_back(input.grad());
    EXPECT_ANY_THROW(outputs["sum"].backward());
  }
  EXPECT_TRUE(torch::allclose(seen[0], seen[1], 1e-6, 1e-6));
  auto input = x.clone().requires_grad_();
  std::string error = error_of<ArgumentError>(
      [&] { torch::autograd::grad({b(input)["sum"]}, {input}, {}, true, /*create_graph=*/true); });
  EXPECT_NE(error.find("create_graph"), error.npos) << error;
}

TEST_F(Isolated, KeepsWhatAFolderHasForPython) {
  fs::path folder = root() / "both";
  fs::copy(mixed(), folder, fs::copy_options::recursive);
  auto config = Json::parse(read_file(folder / "config.json"), "config.json");
  (*config.get_if<Json::Object>())["auto_map"] = Json::Object{{"AutoModel", "mixed_py.Mixed"}};
  write_file_atomically(folder / "config.json", config.dump());
  write_file_atomically(folder / "mixed_py.py", "from .part import x\n");
  write_file_atomically(folder / "part.py", "x = 1\n");
  auto model = AutoModel::from_pretrained(folder, isolated());
  EXPECT_EQ(model->base_config().loaded_from, folder);
  model->save_pretrained(root() / "both-again");
  for (auto* name : {"mixed_py.py", "part.py", "mixed.h"})
    EXPECT_EQ(read_file(root() / "both-again" / name), read_file(folder / name));
  auto saved = Json::parse(read_file(root() / "both-again/config.json"), "config.json");
  EXPECT_TRUE(saved.find("auto_map"));
}

TEST_F(Isolated, ConfigOverridesAreChecked) {
  auto options = isolated();
  options.config_overrides = {{"width", 6}};
  options.allow_missing = {"*"};
  options.ignore_mismatched_sizes = true;
  auto model = AutoModel::from_pretrained(mixed(), options);
  EXPECT_EQ(model(torch::rand({3, 6}))["hidden"].size(1), 6);
  EXPECT_EQ(model.config().get<int64_t>("width"), 6);
  options.config_overrides = {{"widht", 6}};
  std::string error =
      error_of<ArgumentError>([&] { AutoModel::from_pretrained(mixed(), options); });
  EXPECT_NE(error.find("no field 'widht'"), error.npos) << error;
}

TEST_F(Isolated, ErrorsOfTheModelLeaveItAlive) {
  auto model = AutoModel::from_pretrained(mixed(), isolated());
  EXPECT_NE(error_of<ArgumentError>([&] { model(torch::rand({3, 5})); }).find("width of 4"),
            std::string::npos);
  EXPECT_NE(error_of<ArgumentError>([&] { model({{"y", torch::rand({3})}}); }).find("y"),
            std::string::npos);
  EXPECT_NE(error_of<Error>([&] { model(torch::randint(3, {3, 4})); }), "no error");
  EXPECT_EQ(model(torch::rand({3, 4}))["hidden"].sizes(), (std::vector<int64_t>{3, 4}));
  auto throws = AutoModel::from_pretrained(hostile(), attack("throw"));
  EXPECT_NE(error_of<Error>([&] { throws(torch::ones({2})); }).find("thrown by the model"),
            std::string::npos);
  model->to(torch::kFloat64);
  EXPECT_NE(error_of<ArgumentError>([&] { model(torch::rand({3, 4})); }).find("shared memory"),
            std::string::npos);
}

TEST_F(Isolated, ComesAndGoesWithoutTrace) {
  auto count = [](const char* folder) {
    auto entries = fs::directory_iterator(folder);
    return std::distance(begin(entries), end(entries));
  };
  auto resident = [] {
    std::ifstream file("/proc/self/statm");
    long all, pages;
    file >> all >> pages;
    return pages * sysconf(_SC_PAGESIZE);
  };
  auto cycle = [&] {
    auto a = AutoModel::from_pretrained(mixed(), isolated());
    auto b = AutoModel::from_pretrained(mixed(), isolated());
    auto x = torch::rand({3, 4});
    EXPECT_TRUE(same(a(x), b(x)));
    a(x)["sum"].backward();
  };
  for (int i = 0; i < 3; ++i) cycle();
  auto files = count("/proc/self/fd"), threads = count("/proc/self/task");
  auto memory = resident();
  for (int i = 0; i < 25; ++i) cycle();
  EXPECT_EQ(count("/proc/self/fd"), files);
  EXPECT_EQ(count("/proc/self/task"), threads);
  EXPECT_LT(resident() - memory, 8 << 20);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "no process is left";
}

TEST_F(Isolated, RefusesWhatItCannotIsolate) {
  auto options = isolated();
  options.device = torch::Device("cuda:0");
  EXPECT_NE(error_of<ArgumentError>([&] {
              AutoModel::from_pretrained(mixed(), options);
            }).find("runs on the CPU"),
            std::string::npos);
  EXPECT_NE(error_of<NotFoundError>(
                [&] { AutoModelForImageClassification::from_pretrained(mixed(), isolated()); }),
            "no error");
}

}  // namespace isolation_test
