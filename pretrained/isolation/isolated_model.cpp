#include <torch/torch.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>

#include "pretrained/base/error.h"
#include "pretrained/isolation/isolation.h"
#include "pretrained/isolation/process.h"
#include "pretrained/isolation/shared_memory.h"
#include "pretrained/model/weights.h"

// The stand-in for a model that lives in a process of its own.

namespace pretrained::isolation {
namespace {

// A config whose class only the other process knows: base fields, and all else in `extra`.
struct ForeignConfig : PretrainedConfig<ForeignConfig> {
  static constexpr auto model_type = "";
  PRETRAINED_FIELDS()
};

constexpr size_t kMaxOutputs = 1000, kMaxModules = 100'000;
constexpr uint64_t kFirstMemory = 1 << 20;

std::vector<std::string> read_names(const Json* list) {
  std::vector<std::string> names;
  auto* array = list ? list->get_if<Json::Array>() : nullptr;
  if (!array || array->size() > kMaxOutputs) throw FormatError("no list of inputs");
  for (auto& entry : *array) {
    auto* name = entry.get_if<std::string>();
    if (!name || name->empty() || printable(*name) != *name)
      throw FormatError("a bad input's name");
    names.push_back(*name);
  }
  return names;
}

// One module per dot of the names, so that named_parameters() gives them back.
torch::nn::Module& child(torch::nn::Module& parent, const std::string& name) {
  for (auto& item : parent.named_children())
    if (item.key() == name) return *item.value();
  return *parent.register_module(name, std::make_shared<torch::nn::Module>());
}

std::vector<bool> read_flags(const Json* list, size_t count) {
  auto* array = list ? list->get_if<Json::Array>() : nullptr;
  if (!array || array->size() != count) throw FormatError("flags for other tensors");
  std::vector<bool> flags;
  for (auto& entry : *array) {
    auto* flag = entry.get_if<bool>();
    if (!flag) throw FormatError("a flag that is none");
    flags.push_back(*flag);
  }
  return flags;
}

struct State {
  std::vector<std::string> modules;  // each after its parent; "" is the model itself
  TensorInfos tensors;
  std::vector<size_t> first;     // where a tensor has several names: its first one
  std::vector<bool> parameters;  // the others are buffers
};

// Names of modules, dots between them: nothing but what a module may be called.
bool is_module_path(const std::string& name) {
  bool good = !name.empty() && name.size() < 1000 && name.back() != '.' && name[0] != '.' &&
              name.find("..") == name.npos;
  for (unsigned char c : name) good = good && (std::isalnum(c) || c == '_' || c == '.' || c == '-');
  return good;
}

std::vector<std::string> read_modules(const Json* list) {
  auto* array = list ? list->get_if<Json::Array>() : nullptr;
  if (!array || array->empty() || array->size() > kMaxModules)
    throw FormatError("no list of modules");
  std::vector<std::string> modules = {""};
  for (size_t i = 0; i < array->size(); ++i) {
    auto* name = (*array)[i].get_if<std::string>();
    if (!name || (i == 0 ? !name->empty() : !is_module_path(*name)))
      throw FormatError("a module's bad name");
    if (i > 0) modules.push_back(*name);
  }
  return modules;
}

State state_from_json(const Json& answer) {
  auto infos = tensors_from_json(answer.find("tensors"), "parameters");
  std::set<std::string> names;
  for (auto& info : infos) {
    if (!is_module_path(info.name) || !names.insert(info.name).second ||
        (info.requires_grad && !at::isFloatingType(info.dtype)))
      throw FormatError("a parameter's bad name: " + printable(info.name));
  }
  auto* first = answer.find("first");
  auto* list = first ? first->get_if<Json::Array>() : nullptr;
  if (!list || list->size() != infos.size()) throw FormatError("parameters without names");
  State state;
  for (size_t i = 0; i < infos.size(); ++i) {
    auto* k = (*list)[i].get_if<int64_t>();
    if (!k || *k < 0 || size_t(*k) > i) throw FormatError("parameters without names");
    state.first.push_back(size_t(*k));
  }
  state.parameters = read_flags(answer.find("parameters"), infos.size());
  state.modules = read_modules(answer.find("modules"));
  state.tensors = std::move(infos);
  return state;
}

// One call with gradients: its graph lives in the other process until backward, or until this goes.
class Session;
struct Graph : torch::CustomClassHolder {
  Graph(std::shared_ptr<Session> session, int64_t id) : session(std::move(session)), id(id) {}
  ~Graph() override;
  std::shared_ptr<Session> session;
  int64_t id;
};

// The other process, and the tensors that both sides hold.
class Session : public std::enable_shared_from_this<Session> {
 public:
  // `state`: as the other process described it, before there is memory for it.
  Session(std::string name, std::unique_ptr<ModelProcess> process, const IsolationLimits& limits,
          State state)
      : name_(std::move(name)),
        process_(std::move(process)),
        limits_(limits),
        infos_(std::move(state.tensors)),
        first_(std::move(state.first)) {}

  // Memory for the state, in the dtype it is loaded in.
  void make_state(std::optional<torch::Dtype> dtype) {
    TensorInfos infos = infos_;
    for (auto& info : infos)
      if (dtype && at::isFloatingType(info.dtype)) info.dtype = *dtype;
    state_memory_ = SharedMemory(std::max<uint64_t>(lay_out(infos), 1));
    auto answer = ask({{"request", "memory"},
                       {"use", "state"},
                       {"dtype", dtype ? dtype_name(*dtype) : std::string()}},
                      state_memory_.descriptor());
    guarded([&] {
      auto given = tensors_from_json(answer.body.find("tensors"), "parameters");
      auto same = [](const TensorInfo& a, const TensorInfo& b) {
        return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape &&
               a.requires_grad == b.requires_grad;
      };
      if (!std::ranges::equal(given, infos, same)) throw FormatError("other tensors than before");
      infos_ = std::move(given);
      for (size_t i = 0; i < infos_.size(); ++i)
        state_.push_back(first_[i] < i ? state_[first_[i]] : state_memory_.tensor(infos_[i]));
    });
  }
  const TensorInfos& infos() const { return infos_; }
  const std::vector<torch::Tensor>& state() const { return state_; }

  struct Outputs {
    std::vector<std::string> names;
    std::vector<torch::Tensor> tensors;
    std::vector<bool> requires_grad;
  };
  Outputs call(const std::vector<std::string>& names, const std::vector<torch::Tensor>& tensors,
               const Json::Array& training, bool grad, int64_t id) {
    std::lock_guard lock(mutex_);
    check_state();
    TensorInfos infos;
    for (size_t i = 0; i < names.size(); ++i) infos.push_back(describe(names[i], tensors[i]));
    pass(infos, tensors);
    Json::Array flags;
    for (auto& tensor : state_) flags.push_back(grad && tensor.requires_grad());
    auto answer = ask({{"request", "call"},
                       {"id", id},
                       {"grad", grad},
                       {"training", training},
                       {"forget", take_forgotten()},
                       {"requires_grad", flags},
                       {"inputs", to_json(infos)}});
    Outputs outputs;
    guarded([&] {
      TensorInfos results;
      outputs.tensors = take(answer, results);
      for (auto& info : results) {
        if (info.name.empty() || printable(info.name) != info.name ||
            std::ranges::count(outputs.names, info.name) > 0)
          throw FormatError("an output's bad name");
        outputs.names.push_back(info.name);
        outputs.requires_grad.push_back(info.requires_grad && at::isFloatingType(info.dtype));
      }
    });
    return outputs;
  }

  // Gradients for state and inputs, in this order; undefined where there is none.
  std::vector<torch::Tensor> backward(int64_t id, const std::vector<torch::Tensor>& given,
                                      size_t input_count, bool keep_graph) {
    std::lock_guard lock(mutex_);
    torch::NoGradGuard no_grad;
    prepare_gradients();
    TensorInfos infos;
    std::vector<torch::Tensor> tensors;
    for (size_t i = 0; i < given.size(); ++i) {
      if (!given[i].defined()) continue;
      infos.push_back(describe(std::to_string(i), given[i]));
      tensors.push_back(given[i]);
    }
    pass(infos, tensors);
    auto answer = ask(
        {{"request", "backward"}, {"id", id}, {"keep", keep_graph}, {"gradients", to_json(infos)}});
    std::vector<torch::Tensor> result;
    guarded([&] {
      auto state = read_flags(answer.body.find("state"), state_.size());
      auto inputs = read_flags(answer.body.find("inputs"), input_count);
      TensorInfos places = infos_;
      lay_out(places);
      for (size_t i = 0; i < state_.size(); ++i)
        result.push_back(state[i] ? gradients_.tensor(places[i]).clone() : torch::Tensor());
      TensorInfos ignored;
      auto values = take(answer, ignored);
      size_t next = 0;
      for (bool has : inputs) {
        if (has && next >= values.size()) throw FormatError("a gradient that is not there");
        result.push_back(has ? values[next++] : torch::Tensor());
      }
    });
    return result;
  }

  int64_t next_id() { return next_id_++; }
  void forget(int64_t id) {
    std::lock_guard lock(forget_mutex_);
    forgotten_.push_back(id);
  }

 private:
  // What the other process says is not to be believed: anything that does not fit ends it.
  template <class F>
  void guarded(F&& body) {
    try {
      body();
    } catch (const FormatError& error) {
      process_.reset();
      failure_ = name_ + ": the model's process broke the rules: " + error.what();
      throw ModelProcessError(failure_);
    }
  }

  Message ask(Json::Object request, int file = -1) {
    if (!process_) throw ModelProcessError(failure_);
    return process_->call(request, file, limits_.call_timeout);
  }

  Json::Array take_forgotten() {
    std::lock_guard lock(forget_mutex_);
    Json::Array ids(forgotten_.begin(), forgotten_.end());
    forgotten_.clear();
    return ids;
  }

  void check_state() const {
    for (size_t i = 0; i < state_.size(); ++i)
      if (state_[i].numel() > 0 && !state_memory_.contains(state_[i].const_data_ptr()))
        throw ArgumentError(name_ + ": '" + infos_[i].name +
                            "' has left the shared memory: an isolated model stays on the CPU and "
                            "in its dtype");
  }

  void prepare_gradients() {
    if (gradients_.size() < state_memory_.size()) {
      gradients_ = SharedMemory(state_memory_.size());
      ask({{"request", "memory"}, {"use", "gradients"}, {"dtype", ""}}, gradients_.descriptor());
    }
  }

  // Tensors into the memory that the other process reads.
  void pass(TensorInfos& infos, const std::vector<torch::Tensor>& tensors) {
    torch::NoGradGuard no_grad;
    uint64_t bytes = lay_out(infos);
    if (inputs_.size() < std::max<uint64_t>(bytes, 1)) {
      inputs_ = SharedMemory(std::max(bytes, kFirstMemory));
      ask({{"request", "memory"}, {"use", "inputs"}, {"dtype", ""}}, inputs_.descriptor());
    }
    for (size_t i = 0; i < infos.size(); ++i)
      if (tensors[i].numel() > 0) inputs_.tensor(infos[i]).copy_(tensors[i].detach());
  }

  // Copies of the tensors of an answer: what is shared can change after it was looked at.
  std::vector<torch::Tensor> take(const Message& answer, TensorInfos& infos) {
    infos = tensors_from_json(answer.body.find("outputs"), "outputs");
    if (infos.size() > kMaxOutputs) throw FormatError("too many outputs");
    TensorInfos expected = infos;
    uint64_t bytes = lay_out(expected);
    auto* given = answer.body.find("given");
    auto* flag = given ? given->get_if<bool>() : nullptr;
    if (!flag) throw FormatError("an answer without 'given'");
    if (!*flag) {
      if (bytes > limits_.output_bytes)
        throw FormatError("outputs of " + std::to_string(bytes) + " bytes, more than allowed");
      outputs_ = SharedMemory(std::max(bytes, kFirstMemory));
      ask({{"request", "collect"}}, outputs_.descriptor());
    }
    std::vector<torch::Tensor> tensors;
    for (auto& info : expected) tensors.push_back(outputs_.tensor(info).clone());
    return tensors;
  }

  std::string name_, failure_;
  std::unique_ptr<ModelProcess> process_;
  IsolationLimits limits_;
  std::mutex mutex_, forget_mutex_;
  TensorInfos infos_;
  std::vector<size_t> first_;
  std::vector<torch::Tensor> state_;
  SharedMemory state_memory_, inputs_, outputs_, gradients_;
  std::vector<int64_t> forgotten_;
  std::atomic<int64_t> next_id_ = 1;
};

Graph::~Graph() { session->forget(id); }

struct CallFunction : torch::autograd::Function<CallFunction> {
  using List = torch::autograd::variable_list;

  static List forward(torch::autograd::AutogradContext* context, Session* session,
                      const Json::Array* training, const std::vector<std::string>* names,
                      std::vector<std::string>* output_names, at::TensorList tensors) {
    auto graph = c10::make_intrusive<Graph>(session->shared_from_this(), session->next_id());
    List inputs(tensors.end() - std::ptrdiff_t(names->size()), tensors.end()), constants;
    auto outputs = session->call(*names, inputs, *training, true, graph->id);
    for (size_t i = 0; i < outputs.tensors.size(); ++i)
      if (!outputs.requires_grad[i]) constants.push_back(outputs.tensors[i]);
    *output_names = outputs.names;
    context->mark_non_differentiable(constants);
    context->saved_data["graph"] = c10::IValue::make_capsule(graph);
    context->saved_data["inputs"] = int64_t(names->size());
    context->set_materialize_grads(false);
    return outputs.tensors;
  }

  static List backward(torch::autograd::AutogradContext* context, List given) {
    if (at::GradMode::is_enabled())
      throw ArgumentError("gradients of gradients (create_graph) do not reach an isolated model");
    auto graph =
        c10::static_intrusive_pointer_cast<Graph>(context->saved_data["graph"].toCapsule());
    auto gradients =
        graph->session->backward(graph->id, given, size_t(context->saved_data["inputs"].toInt()),
                                 torch::autograd::get_current_graph_task_keep_graph());
    List results(4);  // of what is no tensor
    results.insert(results.end(), gradients.begin(), gradients.end());
    return results;
  }
};

class IsolatedModel : public Model {
 public:
  IsolatedModel(const ForeignConfig& config, const ModelClass& model_class,
                std::shared_ptr<Session> session, const std::vector<std::string>& modules,
                std::vector<bool> parameters)
      : Model(config),
        class_(model_class),
        session_(std::move(session)),
        parameters_(std::move(parameters)) {
    set_config(std::make_shared<ForeignConfig>(config), "");
    for (auto& name : modules) modules_.push_back(&place_of(name));
  }

  const ModelClass& model_class() const override { return class_; }
  bool keeps_memory() const override { return true; }

  void begin_loading(std::optional<torch::Dtype> dtype) override {
    session_->make_state(dtype);
    auto& infos = session_->infos();
    for (size_t i = 0; i < infos.size(); ++i)
      add_tensor(infos[i], session_->state()[i], parameters_[i]);
  }

  NamedTensors call(const NamedTensors& inputs) override {
    std::unique_ptr<bool[]> required(new bool[class_.inputs.size()]());
    check_inputs(inputs, std::span<const bool>(required.get(), class_.inputs.size()));
    std::vector<std::string> names, output_names;
    std::vector<torch::Tensor> tensors;
    for (auto& [name, tensor] : inputs) {
      names.push_back(name);
      tensors.push_back(tensor);
    }
    Json::Array training;
    for (auto* module : modules_) training.push_back(module->is_training());
    if (at::GradMode::is_enabled() && !c10::InferenceMode::is_enabled()) {
      auto all = session_->state();
      all.insert(all.end(), tensors.begin(), tensors.end());
      tensors = CallFunction::apply(session_.get(), &std::as_const(training), &std::as_const(names),
                                    &output_names, at::TensorList(all));
    } else {
      auto outputs = session_->call(names, tensors, training, false, 0);
      tensors = outputs.tensors;
      output_names = outputs.names;
    }
    NamedTensors named;
    for (size_t i = 0; i < tensors.size(); ++i) named.insert(output_names[i], tensors[i]);
    return named;
  }

 protected:
  void check_saved_class() const override {}

 private:
  torch::nn::Module& place_of(std::string name) {
    torch::nn::Module* place = this;
    for (size_t end; !name.empty(); name.erase(0, end + (end < name.size()))) {
      end = std::min(name.find('.'), name.size());
      place = &child(*place, name.substr(0, end));
    }
    return *place;
  }

  void add_tensor(const TensorInfo& info, const torch::Tensor& tensor, bool parameter) {
    size_t dot = info.name.rfind('.');
    auto& place = place_of(dot == info.name.npos ? "" : info.name.substr(0, dot));
    std::string name = info.name.substr(dot + 1);  // npos + 1 is 0
    if (parameter)
      place.register_parameter(name, tensor, info.requires_grad);
    else
      place.register_buffer(name, tensor);
  }

  ModelClass class_;
  std::shared_ptr<Session> session_;
  std::vector<torch::nn::Module*> modules_;  // own children, in the other process's order
  std::vector<bool> parameters_;
};

}  // namespace

std::shared_ptr<Model> start(const std::string& auto_class, const Located& model, const Located& at,
                             const AutoMap& auto_map, const Json& config,
                             const FromPretrained& options) {
  if (!options.device.is_cpu())
    throw ArgumentError("an isolated model runs on the CPU, not on " + options.device.str());
  CompiledCode code = compile_custom_code(at, auto_map, options);
  auto process = std::make_unique<ModelProcess>(at.name());
  bool complete = options.allow_missing.empty() && !options.ignore_mismatched_sizes;
  auto answer =
      process->call(Json::Object{{"request", "start"},
                                 {"auto_class", auto_class},
                                 {"config", config},
                                 {"overrides", options.config_overrides},
                                 {"complete", complete},
                                 {"threads", int64_t(at::get_num_threads())},
                                 {"memory", int64_t(options.isolation_limits.memory_bytes)}},
                    code.library.get(), options.isolation_limits.call_timeout);
  try {
    auto& model_class =
        adopt_foreign_class(code, auto_map.at(auto_class), auto_class,
                            config_class<ForeignConfig>(), read_names(answer.body.find("inputs")));
    State state = state_from_json(answer.body);
    Json overridden = config;
    detail::override_fields(overridden, options.config_overrides);
    auto own_config = ForeignConfig::from_json(overridden);
    own_config.loaded_from = model.folder;
    auto modules = std::move(state.modules);
    auto parameters = std::move(state.parameters);
    auto session = std::make_shared<Session>(at.name(), std::move(process),
                                             options.isolation_limits, std::move(state));
    return std::make_shared<IsolatedModel>(own_config, model_class, session, modules,
                                           std::move(parameters));
  } catch (const FormatError& error) {
    throw ModelProcessError(at.name() + ": the model's process broke the rules: " + error.what());
  }
}

}  // namespace pretrained::isolation
