#include "torch_verbs.h"

#include <dlfcn.h>

#include <CLI/CLI.hpp>

#include "pretrained/base/error.h"

namespace pretrained::cli {

const TorchVerbs& torch_verbs() {
  void* library = dlopen("libpretrained_verbs.so", RTLD_NOW | RTLD_LOCAL);
  void* entry = library ? dlsym(library, "pretrained_torch_verbs") : nullptr;
  if (!entry)
    throw NotFoundError("this verb needs LibTorch, and this build of pretrained has none (" +
                        std::string(dlerror()) + ")");
  return *reinterpret_cast<decltype(&pretrained_torch_verbs)>(entry)();
}

void add_predict(CLI::App& app) {
  static Predict arguments;
  auto* command =
      app.add_subcommand("predict", "images in, labels out; or named tensors in and out");
  command
      ->add_option("MODEL", arguments.model, "folder of the model, org/name or org/name@revision")
      ->required();
  command->add_option("INPUT", arguments.images, "images, or folders of images");
  command->add_option("--input", arguments.input, "named tensors for forward")
      ->type_name("X.safetensors");
  command->add_option("--output", arguments.output, "where its outputs go")
      ->type_name("Y.safetensors");
  command
      ->add_option("--auto-class", arguments.auto_class,
                   "which class of the model's code; else AutoModelForImageClassification, or what "
                   "suits --input")
      ->type_name("NAME");
  command->add_option("--batch-size", arguments.batch_size, "images at once")
      ->capture_default_str();
  command->add_option("--top", arguments.top, "how many labels")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  command->add_flag("--trust-remote-code", arguments.trust_remote_code,
                    "compile and run the C++ code that comes with the model");
  command->add_flag("--isolate", arguments.isolate,
                    "run that code in a process that can only compute; it need not be trusted");
  command
      ->add_option("--code", arguments.code,
                   "use the C++ code of this folder or org/repo@commit instead")
      ->type_name("DIR");
  command
      ->add_option("--lock", arguments.lock,
                   "use only what this pretrained.lock holds (pretrained lock)")
      ->type_name("FILE");
  command->add_option("--revision", arguments.revision, "branch, tag or commit on the hub")
      ->type_name("REV");
  add_offline(*command);
  command->add_option("--subfolder", arguments.subfolder, "folder inside MODEL")->type_name("DIR");
  command->add_option("--variant", arguments.variant, "weights file model.VARIANT.safetensors")
      ->type_name("NAME");
  command->add_option("--dtype", arguments.dtype, "auto, float32, bfloat16, float16, …")
      ->capture_default_str();
  command->add_option("--device", arguments.device, "cpu, cuda, cuda:1, …")->capture_default_str();
  add_common(*command, arguments.common);
  command->footer(
      "Examples:\n  pretrained predict custom-resnet50d photo.jpg --trust-remote-code\n"
      "  pretrained predict org/custom-resnet50d@<commit> photo.jpg --trust-remote-code\n"
      "  pretrained predict custom-resnet50d photos/ --trust-remote-code --json\n"
      "  pretrained predict custom-resnet50d --input x.safetensors --output y.safetensors "
      "--trust-remote-code");
  command->callback([] { torch_verbs().predict(arguments); });
}

void add_inspect(CLI::App& app) {
  static Inspect arguments;
  auto* command =
      app.add_subcommand("inspect", "what a model is made of; runs no code and reads no weights");
  command
      ->add_option("MODEL", arguments.model,
                   "folder of a model, org/name[@revision], or a .safetensors file")
      ->required();
  command->add_option("--revision", arguments.revision, "branch, tag or commit on the hub")
      ->type_name("REV");
  add_offline(*command);
  add_common(*command, arguments.common);
  command->footer(
      "Examples:\n  pretrained inspect custom-resnet50d\n  pretrained inspect "
      "org/custom-resnet50d\n"
      "  pretrained inspect model.safetensors "
      "--json");
  command->callback([] { torch_verbs().inspect(arguments); });
}

void add_new(CLI::App& app) {
  static Common common;
  static std::string folder;
  auto* command = app.add_subcommand("new", "scaffold a custom model that compiles and predicts");
  command->add_option("DIR", folder, "the new folder; its name becomes the model's")->required();
  add_common(*command, common);
  command->footer(
      "Example:\n  pretrained new my-model && pretrained predict my-model my-model/test.png "
      "--trust-remote-code");
  command->callback([] { torch_verbs().create(folder, common); });
}

}  // namespace pretrained::cli
