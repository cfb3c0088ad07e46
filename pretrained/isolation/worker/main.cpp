// pretrained-worker: the process that a model lives in. Started by ModelProcess with its socket as
// descriptor 3; everything it is told comes over that. Once lock_down() has returned, the model's
// code is loaded, and not a line of it before.

#include <dlfcn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <torch/torch.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <set>

#include "pretrained/base/error.h"
#include "pretrained/isolation/channel.h"
#include "pretrained/isolation/lockdown.h"
#include "pretrained/isolation/shared_memory.h"
#include "pretrained/model/custom_code.h"
#include "pretrained/model/no_init.h"
#include "pretrained/model/weights.h"

namespace pretrained::isolation {
namespace {

template <class T>
T member(const Json& json, const char* key) {
  auto* found = json.find(key);
  auto* value = found ? found->get_if<T>() : nullptr;
  if (!value) throw FormatError(std::string("a request without '") + key + "'");
  return *value;
}

class Worker {
 public:
  explicit Worker(Channel channel) : channel_(std::move(channel)) {}

  void run() {
    for (;;) {
      Message request = channel_.receive();
      Json answer;
      try {
        answer = handle(request);
      } catch (const Error& error) {
        answer = Json::Object{{"error", error.what()}, {"code", error.exit_code()}};
      } catch (const c10::Error& error) {
        answer = Json::Object{{"error", error.what_without_backtrace()}};
      } catch (const std::bad_alloc&) {
        answer = Json::Object{{"error", "out of memory"}};
      } catch (const std::exception& error) {
        answer = Json::Object{{"error", error.what()}};
      }
      channel_.send(answer);
    }
  }

 private:
  Json handle(Message& request) {
    auto what = member<std::string>(request.body, "request");
    if (what == "start") return start(request);
    if (what == "memory") return take_memory(request);
    if (what == "call") return call(request);
    if (what == "collect") return collect(request);
    if (what == "backward") return backward(request);
    throw FormatError("an unknown request");
  }

  Json start(Message& request) {
    lock_down(uint64_t(member<int64_t>(request.body, "memory")));
    at::set_num_threads(int(member<int64_t>(request.body, "threads")));  // starts some
    std::string path = "/proc/self/fd/" + std::to_string(request.file.get());
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) throw Error(std::string("the compiled code does not load: ") + dlerror());
    request.file.release();
    auto* entry = reinterpret_cast<void (*)(ClassTable&)>(dlsym(library, kCustomCodeEntry));
    if (!entry) throw Error("the compiled code has no entry");
    static ClassTable table;
    entry(table);
    auto found = table.models.find(member<std::string>(request.body, "auto_class"));
    if (found == table.models.end()) throw Error("the compiled code lacks that class");
    const ModelClass& model_class = *found->second;
    auto config =
        detail::read_config(*model_class.config, member<Json::Object>(request.body, "config"),
                            member<Json::Object>(request.body, "overrides"));
    std::optional<NoInitGuard> no_init;
    if (member<bool>(request.body, "complete")) no_init.emplace();
    model_ = model_class.make(*config);
    no_init.reset();
    model_->eval();
    Json::Array modules;
    for (auto& module : model_->named_modules("", /*include_self=*/true)) {
      modules.push_back(module.key());
      modules_.push_back({module.key(), module.value(), false});
    }
    Json::Array inputs(model_class.inputs.begin(), model_class.inputs.end());
    std::set<const void*> parameters;
    for (auto& parameter : model_->parameters()) parameters.insert(parameter.unsafeGetTensorImpl());
    TensorInfos infos = layout();
    Json::Array flags, first;
    for (size_t i = 0; i < state_.size(); ++i) {
      flags.push_back(parameters.contains(state_[i].unsafeGetTensorImpl()));
      first.push_back(int64_t(first_name(i)));
    }
    return Json::Object{{"inputs", inputs},
                        {"modules", modules},
                        {"tensors", to_json(infos)},
                        {"parameters", flags},
                        {"first", first}};
  }

  // Parameters and buffers in the order of state_dict; what shares memory shares its place.
  TensorInfos layout(std::optional<torch::Dtype> dtype = {}) {
    TensorInfos infos;
    std::map<std::pair<const void*, std::vector<int64_t>>, size_t> places;
    state_.clear();
    for (auto& [name, tensor] : model_->state_dict()) {
      infos.push_back(describe(name, tensor));
      if (dtype && tensor.is_floating_point()) infos.back().dtype = *dtype;
      state_.push_back(tensor);
    }
    lay_out(infos);
    for (size_t i = 0; i < infos.size(); ++i)
      if (state_[i].numel() > 0) {
        auto [place, fresh] =
            places.emplace(std::pair(state_[i].const_data_ptr(), infos[i].shape), i);
        if (!fresh) infos[i].offset = infos[place->second].offset;
      }
    return infos;
  }

  Json take_memory(Message& request) {
    auto use = member<std::string>(request.body, "use");
    SharedMemory memory(std::move(request.file));
    if (use == "state") {
      auto dtype = member<std::string>(request.body, "dtype");
      torch::NoGradGuard no_grad;
      infos_ = layout(dtype.empty() ? std::nullopt : std::optional(parse_dtype(dtype)));
      for (size_t i = 0; i < infos_.size(); ++i) {
        auto shared = memory.tensor(infos_[i]);
        if (shared.numel() > 0 && !memory.contains(state_[i].const_data_ptr()))
          shared.copy_(state_[i]);
        state_[i].set_data(shared);
      }
      return Json::Object{{"tensors", to_json(infos_)}};
    }
    (use == "inputs" ? inputs_ : use == "gradients" ? gradients_ : outputs_) = memory;
    return Json::Object{};
  }

  std::vector<torch::Tensor> read_tensors(const Json& request, const char* key,
                                          TensorInfos& infos) {
    infos = tensors_from_json(request.find(key), key);
    std::vector<torch::Tensor> tensors;
    for (auto& info : infos) tensors.push_back(inputs_.tensor(info));
    return tensors;
  }

  struct Graph {
    std::vector<torch::Tensor> inputs, outputs;
  };

  Json call(const Message& request) {
    for (auto& id : member<Json::Array>(request.body, "forget"))
      if (auto* number = id.get_if<int64_t>()) graphs_.erase(*number);
    bool grad = member<bool>(request.body, "grad");
    set_training(member<Json::Array>(request.body, "training"));
    TensorInfos infos;
    auto tensors = read_tensors(request.body, "inputs", infos);
    NamedTensors named;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (grad) {
        tensors[i] = tensors[i].clone();  // a graph outlives the memory's next use
        tensors[i].requires_grad_(infos[i].requires_grad);
      }
      named.insert(infos[i].name, tensors[i]);
    }
    std::optional<c10::InferenceMode> inference;
    if (!grad) inference.emplace();
    at::AutoGradMode mode(grad);
    if (grad) set_requires_grad(member<Json::Array>(request.body, "requires_grad"));
    NamedTensors results = model_->call(named);
    waiting_.clear();
    TensorInfos outputs;
    for (auto& [name, tensor] : results) {
      outputs.push_back(describe(name, tensor));
      waiting_.push_back(tensor);
    }
    if (grad) graphs_[member<int64_t>(request.body, "id")] = {tensors, waiting_};
    uint64_t bytes = lay_out(outputs);
    waiting_infos_ = outputs;
    bool given = outputs_.size() >= bytes;
    if (given) give();
    return Json::Object{{"outputs", to_json(outputs)}, {"given", given}};
  }

  // What changed in the stand-in since the last call happens here, from the outside in: a model may
  // have a train() of its own, which then sees what it would see there.
  void set_training(const Json::Array& wanted) {
    if (wanted.size() != modules_.size()) throw FormatError("flags for other modules");
    for (size_t i = 0; i < modules_.size(); ++i) {
      auto* flag = wanted[i].get_if<bool>();
      if (!flag || *flag == modules_[i].training) continue;
      modules_[i].module->train(*flag);
      for (auto& other : modules_)
        if (modules_[i].name.empty() || other.name == modules_[i].name ||
            other.name.starts_with(modules_[i].name + "."))
          other.training = *flag;
    }
  }

  void set_requires_grad(const Json::Array& wanted) {
    if (wanted.size() != state_.size()) throw FormatError("flags for other tensors");
    for (size_t i = 0; i < state_.size(); ++i)
      if (auto* flag = wanted[i].get_if<bool>(); flag && state_[i].requires_grad() != *flag)
        state_[i].requires_grad_(*flag);
  }

  void give() {
    torch::NoGradGuard no_grad;
    for (size_t i = 0; i < waiting_.size(); ++i)
      if (waiting_[i].numel() > 0) outputs_.tensor(waiting_infos_[i]).copy_(waiting_[i].detach());
    waiting_.clear();
  }

  // The outputs again, now that there is memory for them.
  Json collect(Message& request) {
    outputs_ = SharedMemory(std::move(request.file));
    give();
    return Json::Object{};
  }

  Json backward(const Message& request) {
    auto found = graphs_.find(member<int64_t>(request.body, "id"));
    if (found == graphs_.end())
      throw Error(
          "backward a second time through a freed graph: the first needs retain_graph = true");
    bool keep = member<bool>(request.body, "keep");
    Graph graph = found->second;
    if (!keep) graphs_.erase(found);
    TensorInfos infos;
    auto given = read_tensors(request.body, "gradients", infos);
    std::vector<torch::Tensor> roots, gradients;
    for (size_t i = 0; i < infos.size(); ++i) {
      size_t index = std::stoul(infos[i].name);
      if (index >= graph.outputs.size()) throw FormatError("a gradient of no output");
      roots.push_back(graph.outputs[index]);
      gradients.push_back(given[i]);
    }
    std::vector<torch::Tensor> wanted;
    for (size_t i = 0; i < state_.size(); ++i)
      if (wants_gradient(i)) wanted.push_back(state_[i]);
    for (auto& tensor : graph.inputs)
      if (tensor.requires_grad()) wanted.push_back(tensor);
    auto results = torch::autograd::grad(roots, wanted, gradients, /*retain_graph=*/keep,
                                         /*create_graph=*/false, /*allow_unused=*/true);
    return give_gradients(graph, results);
  }

  // A tensor may be registered under several names.
  size_t first_name(size_t i) const {
    size_t k = 0;
    while (!state_[k].is_same(state_[i])) ++k;
    return k;
  }
  bool wants_gradient(size_t i) const { return state_[i].requires_grad() && first_name(i) == i; }

  // Those of the state at places of their own, those of the inputs behind each other.
  Json give_gradients(const Graph& graph, const std::vector<torch::Tensor>& results) {
    torch::NoGradGuard no_grad;
    size_t next = 0;
    TensorInfos places = infos_;
    lay_out(places);
    Json::Array state, inputs;
    for (size_t i = 0; i < state_.size(); ++i) {
      if (!wants_gradient(i)) {
        state.push_back(false);
        continue;
      }
      auto& gradient = results[next++];
      state.push_back(gradient.defined());
      if (gradient.defined()) gradients_.tensor(places[i]).copy_(gradient);
    }
    waiting_.clear();
    TensorInfos outputs;
    for (auto& input : graph.inputs) {
      auto gradient = input.requires_grad() ? results[next++] : torch::Tensor();
      inputs.push_back(gradient.defined());
      if (!gradient.defined()) continue;
      outputs.push_back(describe("", gradient));
      waiting_.push_back(gradient);
    }
    uint64_t bytes = lay_out(outputs);
    waiting_infos_ = outputs;
    bool given = outputs_.size() >= bytes;
    if (given) give();
    return Json::Object{
        {"state", state}, {"inputs", inputs}, {"outputs", to_json(outputs)}, {"given", given}};
  }

  struct Part {
    std::string name;
    std::shared_ptr<torch::nn::Module> module;
    bool training;  // as the stand-in had it at the last call
  };

  Channel channel_;
  std::shared_ptr<Model> model_;
  std::vector<Part> modules_;
  std::vector<torch::Tensor> state_;
  TensorInfos infos_;
  SharedMemory inputs_, outputs_, gradients_;
  std::map<int64_t, Graph> graphs_;
  std::vector<torch::Tensor> waiting_;  // results that the host has not taken yet
  TensorInfos waiting_infos_;
};

}  // namespace
}  // namespace pretrained::isolation

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc != 2 || std::to_string(getppid()) != argv[1]) return 1;
  if (syscall(SYS_close_range, 4u, ~0u, 0u) != 0) return 1;
  try {
    pretrained::isolation::Worker(pretrained::isolation::Channel(pretrained::FileDescriptor(3)))
        .run();
  } catch (const std::exception&) {
    _exit(1);  // the host is gone, or nobody's
  }
}
