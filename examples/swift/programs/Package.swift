// swift-tools-version: 5.9
// One folder deeper than the other languages: two packages whose folders are both named "swift" would be one to SwiftPM.
import PackageDescription

let package = Package(
    name: "tern-examples",
    platforms: [.macOS(.v10_15)],
    dependencies: [.package(path: "../../../bindings/swift")],
    targets: [
        .executableTarget(name: "generate", dependencies: [.product(name: "Tern", package: "swift")], path: "Sources/Generate"),
        .executableTarget(name: "chat", dependencies: [.product(name: "Tern", package: "swift")], path: "Sources/Chat"),
        // Sources/ChatApp is an app: it needs SwiftUI and Xcode, and is no target here.
    ]
)
