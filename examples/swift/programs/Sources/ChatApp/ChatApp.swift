// The smallest SwiftUI app: add this file, the Tern package and a model file named model.gguf to a new Xcode project.
// It needs a Mac to build; the machine this project is tested on has none.
import SwiftUI
import Tern

@main
struct ChatApp: App {
    var body: some Scene {
        WindowGroup { ChatView() }
    }
}

@MainActor
final class Chat: ObservableObject {
    @Published var messages: [Message] = []
    @Published var failure: String?
    @Published var running: Task<Void, Never>?
    private var session: LanguageModelSession?

    func load() async {
        do {
            guard let url = Bundle.main.url(forResource: "model", withExtension: "gguf") else {
                failure = "model.gguf is not in the app"
                return
            }
            let session = LanguageModelSession(model: try await Model(contentsOf: url))
            try await session.prewarm()
            self.session = session
        } catch {
            failure = error.localizedDescription
        }
    }

    func ask(_ question: String) {
        guard let session, running == nil else { return }
        messages.append(Message(role: "user", content: question))
        messages.append(Message(role: "assistant", content: ""))
        let answer = messages.count - 1
        running = Task {
            do {
                for try await partial in session.streamResponse(to: question) {
                    messages[answer] = Message(role: "assistant", content: partial.content)
                }
            } catch is CancellationError {
                // stopped by the button: what was said stays
            } catch {
                failure = error.localizedDescription
            }
            running = nil
        }
    }
}

struct ChatView: View {
    @StateObject private var chat = Chat()
    @State private var question = ""

    var body: some View {
        VStack {
            ScrollView {
                ForEach(Array(chat.messages.enumerated()), id: \.offset) { _, message in
                    Text(message.content)
                        .frame(maxWidth: .infinity, alignment: message.role == "user" ? .trailing : .leading)
                        .padding(8)
                }
            }
            if let failure = chat.failure { Text(failure).foregroundColor(.red) }
            HStack {
                TextField("Say something", text: $question)
                if let running = chat.running {
                    Button("Stop") { running.cancel() }
                } else {
                    Button("Send") {
                        chat.ask(question)
                        question = ""
                    }
                }
            }
        }
        .padding()
        .task { await chat.load() }
    }
}
