// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "tern-examples",
    platforms: [.macOS(.v10_15)],
    dependencies: [.package(name: "tern", path: "../../..")],
    targets: [
        .executableTarget(name: "generate", dependencies: [.product(name: "Tern", package: "tern")], path: "Sources/Generate"),
        .executableTarget(name: "chat", dependencies: [.product(name: "Tern", package: "tern")], path: "Sources/Chat"),
        // Sources/ChatApp is an app: it needs SwiftUI and Xcode, and is no target here.
    ]
)
